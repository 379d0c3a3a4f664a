"""What a request asks, read from its headers and its body, with every limit."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from serving.batching import Item
from serving.problems import Refused, malformed, parse, too_large
from serving.schemas import PredictRequest
from serving.settings import Settings

TIMEOUT = b"x-request-timeout-ms"
MOST_DIGITS = 9
"""Of a timeout; a longer number is longer than anybody waits."""


def declared(headers: Mapping[bytes, bytes]) -> int:
    """The bytes that a body has by its header; 0 where it does not say."""
    value = headers.get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0


def check_headers(headers: Mapping[bytes, bytes], limits: Settings) -> None:
    """Before a byte of the body is read.

    Raises:
        Refused: 413, the body is too large; 415, it is no JSON, or is compressed.
    """
    if declared(headers) > limits.max_body_bytes:
        raise too_large(limits.max_body_bytes)
    kind = headers.get(b"content-type", b"application/json")
    if kind != b"application/json" and not _is_json(kind.decode("latin-1")):
        raise Refused(
            415, "the content type must be application/json in UTF-8: send the header Content-Type: application/json"
        )
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise Refused(415, "the body is compressed: send it as it is, without Content-Encoding")


def timeout_s(headers: Mapping[bytes, bytes], limits: Settings) -> float:
    """How long the client waits, and no longer than the server would.

    Raises:
        Refused: 422, the header is no whole number of 1 or more.
    """
    asked = headers.get(TIMEOUT)
    if asked is None:
        return limits.request_timeout_s
    digits = asked.lstrip(b"0")
    if not asked.isdigit() or not digits:
        raise Refused(422, "the header X-Request-Timeout-Ms must be a whole number of milliseconds, 1 or more")
    return limits.request_timeout_s if len(digits) > MOST_DIGITS else min(limits.request_timeout_s, int(digits) / 1000)


def read_items(body: bytes, limits: Settings) -> list[Item]:
    """The texts of a body.

    Raises:
        Refused: 400, it is not JSON; 422, it breaks a rule.
    """
    values = parse(body)
    _check_count(values, limits)
    try:
        asked = PredictRequest.model_validate(values)
    except ValidationError as error:
        raise malformed(error) from None
    texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
    if asked.explain:
        _check_explained(texts, limits)
    for index, text in enumerate(texts):
        if len(text) > limits.max_characters:
            where = "inputs" if isinstance(asked.inputs, str) else f"inputs[{index}]"
            raise Refused(
                422,
                f"{where}: the text has {len(text):,} characters, but may have {limits.max_characters:,}: shorten it",
            )
    return [Item(text, asked.top_k, asked.explain) for text in texts]


def _is_json(kind: str) -> bool:
    name, *parameters = kind.split(";")
    named = dict(parameter.strip().lower().partition("=")[::2] for parameter in parameters)
    return name.strip().lower() == "application/json" and named.get("charset", "utf-8").strip(' "') in ("utf-8", "utf8")


def _check_count(values: Any, limits: Settings) -> None:
    """Before pydantic looks at every text, and makes an error of every one that is none."""
    inputs = values.get("inputs") if isinstance(values, dict) else None
    if isinstance(inputs, list) and len(inputs) > limits.max_inputs:
        raise Refused(
            422,
            f"inputs: there are {len(inputs)} texts, but a request may hold {limits.max_inputs}: send several requests",
        )


def _check_explained(texts: list[str], limits: Settings) -> None:
    """An explanation takes as long as many predictions."""
    if len(texts) > limits.max_explained:
        raise Refused(
            422,
            f"inputs: there are {len(texts)} texts, but a request with explain may hold {limits.max_explained}: "
            "send several requests, or leave explain out",
        )
