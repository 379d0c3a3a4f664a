"""The endpoints (docs/http-api.md)."""

import platform
from importlib.metadata import version
from typing import Annotated, Any

import torch
from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError

from nlp_app import __version__
from serving.inference import Inference
from serving.problems import Refused, malformed, parse
from serving.schemas import Info, Limits, Model, PredictRequest, PredictResponse, Problem, Status
from serving.settings import Settings

router = APIRouter()


def inference(request: Request) -> Inference:
    """The inference thread of the app that got this request."""
    found: Inference = request.app.state.inference
    return found


def settings(request: Request) -> Settings:
    """The settings of the app that got this request."""
    found: Settings = request.app.state.settings
    return found


async def predict_request(request: Request, limits: Annotated[Settings, Depends(settings)]) -> PredictRequest:
    """Read and check the body; FastAPI's own reader fails with 500 on nested JSON, NaN and lone surrogates."""
    _check_headers(request)
    values = parse(await request.body())
    _check_count(values, limits)
    try:
        body = PredictRequest.model_validate(values)
    except ValidationError as error:
        raise malformed(error) from None
    _check_explained(body, limits)
    _check_characters(body, limits)
    return body


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is not JSON"},
    413: {"model": Problem, "description": "The body is too large"},
    415: {"model": Problem, "description": "The body is of another type or encoding"},
    422: {"model": Problem, "description": "The body breaks a rule"},
    503: {"model": Problem, "description": "The model is not loaded yet"},
}
BODY = {"required": True, "content": {"application/json": {"schema": PredictRequest.model_json_schema()}}}


@router.post("/predict", response_model=PredictResponse, responses=REFUSALS, openapi_extra={"requestBody": BODY})
async def predict(
    body: Annotated[PredictRequest, Depends(predict_request)], model: Annotated[Inference, Depends(inference)]
) -> Response:
    """Classify one text or a list of texts."""
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    return Response(await model.predict(texts, body.top_k, explain=body.explain), media_type="application/json")


@router.get("/health/live")
async def live() -> Status:
    """Whether the process answers at all."""
    return Status(status="live")


@router.get("/health/ready", responses={503: REFUSALS[503]})
async def ready(model: Annotated[Inference, Depends(inference)]) -> Status:
    """Whether the model is loaded and has answered its golden inputs."""
    _ = model.predictor
    return Status(status="ready")


@router.get("/info", responses={503: REFUSALS[503]})
async def info(model: Annotated[Inference, Depends(inference)], limits: Annotated[Settings, Depends(settings)]) -> Info:
    """The labels, the limits, the versions, and how well the model scored."""
    checkpoint = model.predictor.checkpoint
    return Info(
        model=Model(name=limits.model_name, version=checkpoint.version),
        labels=list(checkpoint.config.labels),
        limits=Limits(
            max_inputs=limits.max_inputs,
            max_explained=limits.max_explained,
            max_characters=limits.max_characters,
            max_body_bytes=limits.max_body_bytes,
            max_length=checkpoint.config.max_length,
        ),
        versions=_versions(),
        metrics=dict(checkpoint.metrics),
    )


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("fastapi", "tokenizers")}
    return {"nlp_app": __version__, "python": platform.python_version(), "torch": torch.__version__, **packages}


def _check_headers(request: Request) -> None:
    kind, *parameters = request.headers.get("content-type", "application/json").split(";")
    named = dict(parameter.strip().lower().partition("=")[::2] for parameter in parameters)
    charset = named.get("charset", "utf-8").strip(' "')
    if kind.strip().lower() != "application/json" or charset not in ("utf-8", "utf8"):
        raise Refused(
            415, "the content type must be application/json in UTF-8: send the header Content-Type: application/json"
        )
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refused(415, "the body is compressed: send it as it is, without Content-Encoding")


def _check_count(values: Any, limits: Settings) -> None:
    """Before pydantic looks at every text, and makes an error of every one that is none."""
    inputs = values.get("inputs") if isinstance(values, dict) else None
    if isinstance(inputs, list) and len(inputs) > limits.max_inputs:
        raise Refused(
            422,
            f"inputs: there are {len(inputs)} texts, but a request may hold {limits.max_inputs}: send several requests",
        )


def _check_explained(body: PredictRequest, limits: Settings) -> None:
    """An explanation takes as long as many predictions, and nobody else is answered meanwhile."""
    if body.explain and isinstance(body.inputs, list) and len(body.inputs) > limits.max_explained:
        raise Refused(
            422,
            f"inputs: there are {len(body.inputs)} texts, but a request with explain may hold {limits.max_explained}: "
            "send several requests, or leave explain out",
        )


def _check_characters(body: PredictRequest, limits: Settings) -> None:
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    for index, text in enumerate(texts):
        if len(text) > limits.max_characters:
            where = "inputs" if isinstance(body.inputs, str) else f"inputs[{index}]"
            raise Refused(
                422,
                f"{where}: the text has {len(text):,} characters, but may have {limits.max_characters:,}: shorten it",
            )
