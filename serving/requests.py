"""What a request asks, read from its headers and its body, with every limit."""

from collections.abc import Mapping

import msgspec

from serving.batching import Item
from serving.problems import Refused, malformed, too_large
from serving.settings import Settings

TIMEOUT = b"x-request-timeout-ms"
MOST_DIGITS = 9
"""Of a timeout; a longer number is longer than anybody waits."""


MOST_DIGITS_OF_BYTES = 20
"""Of a length; a longer number is larger than any."""


def declared(headers: Mapping[bytes, bytes]) -> int:
    """The bytes that a body has by its header; 0 where it does not say."""
    value = headers.get(b"content-length", b"0")
    digits = value.lstrip(b"0")
    return int(digits[:MOST_DIGITS_OF_BYTES] or b"0") if value.isdigit() else 0


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
    check_encoding(headers)


def check_encoding(headers: Mapping[bytes, bytes]) -> None:
    """Refused with 415 where the body is compressed: a small one may unfold to gigabytes."""
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


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A body as schemas.PredictRequest describes it, decoded and checked in one pass that ends at the first fault.

    Decoding first and checking then would hold the event loop for 0.5 s where 5 MB of JSON are a million empty lists.
    """

    inputs: str | list[str]
    top_k: int | float = 1
    """A whole number: JSON knows no difference between 3 and 3.0."""
    explain: bool = False


def read_items(body: bytes, limits: Settings) -> list[Item]:
    """The texts of a body.

    Raises:
        Refused: 400, it is not JSON; 422, it breaks a rule.
    """
    try:
        asked = DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise malformed(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    top_k = whole(asked.top_k)
    if isinstance(asked.inputs, str):
        check_count(1, asked.explain, limits)
        check_length(asked.inputs, "inputs", limits)
        return [Item(asked.inputs, top_k, asked.explain)]
    check_count(len(asked.inputs), asked.explain, limits)
    for index, text in enumerate(asked.inputs):
        check_length(text, f"inputs[{index}]", limits)
    return [Item(text, top_k, asked.explain) for text in asked.inputs]


DECODER = msgspec.json.Decoder(Asked)


def _is_json(kind: str) -> bool:
    name, *parameters = kind.split(";")
    named = dict(parameter.strip().lower().partition("=")[::2] for parameter in parameters)
    return name.strip().lower() == "application/json" and named.get("charset", "utf-8").strip(' "') in ("utf-8", "utf8")


def whole(top_k: float) -> int:
    """How many labels are asked for; Refused with 422 where that is no whole number of 1 or more."""
    if type(top_k) is not int and not top_k.is_integer():
        raise Refused(422, "top_k: must be a whole number")
    if top_k < 1:
        raise Refused(422, "top_k: must be 1 or more")
    return int(top_k)


def check_length(text: str, where: str, limits: Settings) -> None:
    """Refused with 422 where a text is too long."""
    if len(text) > limits.max_characters:
        raise Refused(
            422,
            f"{where}: the text has {len(text):,} characters, but may have {limits.max_characters:,}: shorten it",
        )


def check_count(texts: int, explain: bool, limits: Settings) -> None:
    """Refused with 422 where they are too many; an explanation takes as long as many predictions."""
    if texts > limits.max_inputs:
        raise Refused(
            422,
            f"inputs: there are {texts} texts, but a request may hold {limits.max_inputs}: send several requests",
        )
    if explain and limits.runtime != "torch":
        raise Refused(422, "explain: this server runs without torch and explains nothing: leave explain out")
    if explain and texts > limits.max_explained:
        raise Refused(
            422,
            f"inputs: there are {texts} texts, but a request with explain may hold {limits.max_explained}: "
            "send several requests, or leave explain out",
        )
