"""From the JSON of an answer; LookupError, TypeError, ValueError or ArithmeticError where it is something else."""

from collections.abc import Mapping
from typing import Any, TypeVar

from nlp_app.client.predictions import Explanation, LabelScore, Prediction, ServerInfo, TokenContribution

T = TypeVar("T")
FLAGS = ("truncated", "abstained", "out_of_scope")
"""Of a prediction, which say them only where they are true."""


def read_prediction(values: Mapping[str, Any]) -> Prediction:
    """A prediction from its JSON.

    Raises:
        LookupError, TypeError, ArithmeticError: it is none.
    """
    why = values.get("explanation")
    truncated, abstained, strange = (_is(values.get(flag, False), bool) for flag in FLAGS)
    return Prediction(
        **_scored(values),
        scores=tuple(LabelScore(**_scored(item)) for item in values["scores"]),
        labels=_strings(values["labels"]) if "labels" in values else None,
        explanation=None if why is None else _read_explanation(why),
        truncated=truncated,
        abstained=abstained,
        out_of_scope=strange,
    )


def _read_explanation(values: Mapping[str, Any]) -> Explanation:
    return Explanation(
        _is(values["label"], str), _number(values["baseline"]), tuple(_read_token(item) for item in values["tokens"])
    )


def _read_token(values: Mapping[str, Any]) -> TokenContribution:
    start, end = (_is(values[name], int) for name in ("start", "end"))
    return TokenContribution(_is(values["token"], str), start, end, _number(values["contribution"]))


def read_predictions(values: Any, count: int) -> list[Prediction]:
    """Those of one answer, which must be as many as there were texts."""
    found = [read_prediction(_is(item, dict)) for item in _is(values, dict)["predictions"]]
    if len(found) != count:
        raise ValueError("not a prediction for each text")
    return found


def read_info(values: Any) -> ServerInfo:
    """What is served, from the answer of /info."""
    model = values["model"]
    limits, versions, metrics = (_is(values[name], dict) for name in ("limits", "versions", "metrics"))
    labels = _strings(values["labels"])
    return ServerInfo(_is(model["name"], str), _is(model["version"], str), labels, limits, versions, metrics)


def _scored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"label": _is(values["label"], str), "score": _number(values["score"])}


def _strings(values: Any) -> tuple[str, ...]:
    return tuple(_is(value, str) for value in _is(values, list))


def _is(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(kind.__name__)
    return value


def _number(value: Any) -> float:
    return float(value if type(value) is int else _is(value, float))
