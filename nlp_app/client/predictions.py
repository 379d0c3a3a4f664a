"""What a server answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and its probability."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class TokenContribution:
    """What a token adds; `start` and `end` are its place in the text."""

    token: str
    start: int
    end: int
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a label: baseline and contributions sum to what sets it apart."""

    label: str
    baseline: float
    tokens: tuple[TokenContribution, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one text, with the fields of nlp_app.predictor.Prediction that a server tells."""

    label: str
    """The most probable label."""
    score: float
    """Its probability."""
    scores: tuple[LabelScore, ...]
    """The top_k most probable labels, best first."""
    truncated: bool = False
    """True where the text was longer than the model reads."""
    labels: tuple[str, ...] | None = None
    """Those that the text is given, best first, where it may have several or none; None where it has one."""
    abstained: bool = False
    """True where the score is lower than what the model was told to answer with."""
    explanation: Explanation | None = None
    """What each token of the text adds to `label`, where that was asked for."""
    out_of_scope: bool = False
    """True where the text is like nothing that the model was trained on."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What is served."""

    name: str
    version: str
    labels: tuple[str, ...]
    limits: Mapping[str, int]
    """What a request may hold at most."""
    versions: Mapping[str, str]
    """Of the server's libraries."""
    metrics: Mapping[str, Any]
    """metrics.json of the checkpoint."""
