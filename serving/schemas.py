"""The shapes of requests and answers, for validation and for the OpenAPI document (docs/http-api.md)."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr

EXAMPLE_ANSWER: dict[str, Any] = {
    "predictions": [
        {
            "label": "order_status",
            "score": 0.97,
            "scores": [{"label": "order_status", "score": 0.97}, {"label": "cancel_order", "score": 0.02}],
        }
    ],
    "model": {"name": "support", "version": "0a1b2c3d4e5f"},
}


def whole(value: Any) -> Any:
    """3.0 is 3: JSON knows no difference."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class PredictRequest(BaseModel):
    """One text or a list of texts."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"inputs": "where is my parcel?"}, {"inputs": ["hi", "thx, bye"], "top_k": 3}]},
    )

    inputs: StrictStr | list[StrictStr] = Field(
        description="a text, or a list of texts; a blank text is scored like any other"
    )
    top_k: Annotated[StrictInt, Field(ge=1), BeforeValidator(whole)] = Field(
        1, description="labels in `scores`, best first; at most as many as the model has"
    )
    explain: StrictBool = Field(False, description="whether each prediction has an `explanation`")


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float = Field(ge=0, le=1)


class TokenContribution(BaseModel):
    """What a token of a text adds to the label."""

    token: str = Field(description="as it stands in the text")
    start: int = Field(ge=0, description="its first character (Unicode code point) in the text")
    end: int = Field(description="the character after its last")
    contribution: float


class Explanation(BaseModel):
    """Baseline and contributions sum to the label's logit minus the mean logit, or to its logit with several labels."""

    label: str
    baseline: float = Field(description="what belongs to no token")
    tokens: list[TokenContribution] = Field(description="all that the model reads, in the order of the text")


class Prediction(LabelScore):
    """The answer to one text."""

    scores: list[LabelScore] = Field(description="the top_k labels, best first")
    labels: list[str] = Field(
        [], description="those that the text is given, best first; present where a text may have several or none"
    )
    truncated: bool = Field(False, description="present and true where the text was longer than the model reads")
    abstained: bool = Field(False, description="present and true where the score is too low for an answer")
    explanation: Explanation | None = Field(None, description="why `label`; present where the request has `explain`")
    out_of_scope: bool = Field(
        False, description="present and true where the text is like nothing that the model was trained on"
    )


class Model(BaseModel):
    """Which model answered."""

    name: str
    version: str = Field(description="the first 12 hex digits of the checkpoint manifest's SHA-256")


class Served(BaseModel):
    """A model of the server."""

    name: str
    version: str = Field(description="as the flag --checkpoint says, else that of the checkpoint; empty while it loads")
    ready: bool


class PredictResponse(BaseModel):
    """The predictions, in the order of the inputs."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_ANSWER]})

    predictions: list[Prediction]
    model: Model


class Problem(BaseModel):
    """Why a request was refused, in one sentence."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"detail": "inputs: there are 2000 texts, but a request may hold 1024: send them in several requests"}
            ]
        }
    )

    detail: str


class Status(BaseModel):
    """The state of the server."""

    status: str


class Limits(BaseModel):
    """What a request may hold at most."""

    max_inputs: int
    max_explained: int = Field(description="texts in a request that asks for explanations")
    max_characters: int
    max_body_bytes: int
    max_length: int = Field(description="tokens of a text that the model reads; the rest is cut")


class Info(BaseModel):
    """What is served."""

    model: Model
    labels: list[str]
    limits: Limits
    versions: dict[str, str]
    metrics: dict[str, Any] = Field(description="metrics.json of the checkpoint")
