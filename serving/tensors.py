"""Requests of the Open Inference Protocol, read: JSON, and tensors in it or as bytes behind it.

What may be long is looked at only as far as it must be: a decoder that makes an object of each of a million empty lists
holds the event loop for half a second.
"""

import math
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import msgspec

from serving.problems import Refused
from serving.requests import check_count
from serving.settings import Settings

HEADER = "Inference-Header-Content-Length"
MOST_DIGITS = 9
"""Of a number of bytes; a longer one is more than a body has, and may take for ever to read."""
LENGTH = re.compile(rf"0{{0,{MOST_DIGITS}}}[0-9]{{1,{MOST_DIGITS}}}")
MOST_DIMENSIONS = 8
MOST_ELEMENTS = 10**9
"""More than a body has bytes."""
SHORT = 65_536
"""Bytes of a shape, and of what is asked for; so many are read in a millisecond."""
MOST_LISTS = 4096
"""Brackets in data that are lists within a list."""
OUTPUTS = {"label": "BYTES", "score": "FP32"}
NO, NULL = msgspec.Raw(b""), msgspec.Raw(b"null")
"""What is not there, and what some clients send in its place."""


class Parameters(msgspec.Struct, frozen=True):
    """Of a tensor or a request; others change nothing."""

    binary_data: msgspec.Raw = NO
    binary_data_output: msgspec.Raw = NO
    binary_data_size: msgspec.Raw = NO


class Input(msgspec.Struct):
    """A tensor that is sent."""

    name: str
    shape: msgspec.Raw
    datatype: str
    data: msgspec.Raw = NULL
    parameters: Parameters | None = None


class Output(msgspec.Struct):
    """A tensor that is asked for."""

    name: str
    parameters: Parameters | None = None


class Inquiry(msgspec.Struct):
    """The JSON of a request."""

    inputs: tuple[Input]
    id: str | None = None
    outputs: msgspec.Raw = NULL
    parameters: Parameters | None = None


NONE = Parameters()
INQUIRY = msgspec.json.Decoder(Inquiry)
ASKED = msgspec.json.Decoder(list[Output] | None)
DIMENSION = Annotated[int, msgspec.Meta(ge=0, le=MOST_ELEMENTS)]
SHAPE = msgspec.json.Decoder(Annotated[list[DIMENSION], msgspec.Meta(min_length=1, max_length=MOST_DIMENSIONS)])
STRINGS = msgspec.json.Decoder(list[str])
LISTS = msgspec.json.Decoder(list[list[str]])


def split(body: bytes, length: str | None) -> tuple[Inquiry, memoryview]:
    """The JSON of a body and the bytes behind it.

    Raises:
        Refused: 400, one of them is not there.
    """
    if length is not None and not (LENGTH.fullmatch(length) and int(length) <= len(body)):
        raise Refused(400, f"the header {HEADER} must be the number of bytes of the JSON, at most those of the body")
    end = len(body) if length is None else int(length)
    return _read(INQUIRY, body[:end], "the request is no inference request"), memoryview(body)[end:]


def read_texts(text: Input, tensors: memoryview, limits: Settings) -> tuple[list[str], list[int]]:
    """The texts of the input `text`, and its shape.

    Raises:
        Refused: 400, the input is not as the model's metadata says; 422, it says that it holds too many texts.
    """
    if text.name != "text":
        raise Refused(400, "inputs: must hold one input, text")
    if text.datatype != "BYTES":
        raise Refused(400, "inputs[0].datatype: must be BYTES")
    shape, size = _shape(text.shape), bytes((text.parameters or NONE).binary_data_size)
    check_count(count := math.prod(shape), explain=False, limits=limits)
    if size not in (b"", b"null"):
        return _elements(tensors, size, count), shape
    if len(tensors):
        raise Refused(400, "inputs[0].parameters.binary_data_size: is missing, but bytes follow the JSON")
    elements = _strings(text.data)
    if len(elements) != count:
        raise Refused(400, f"inputs[0].shape: does not say {len(elements)} elements, which are there")
    return elements, shape


def asked(inquiry: Inquiry) -> dict[str, bool]:
    """The outputs that are asked for, and whether each is sent as bytes."""
    default = (inquiry.parameters or NONE).binary_data_output
    if len(inquiry.outputs) > SHORT:
        raise Refused(400, f"outputs: may have {SHORT:,} bytes")
    outputs = _read(ASKED, inquiry.outputs, "outputs") or [Output(name) for name in OUTPUTS]
    if any(output.name not in OUTPUTS for output in outputs):
        raise Refused(400, f"outputs: there are {' and '.join(OUTPUTS)}, and no other")
    return {output.name: bytes((output.parameters or NONE).binary_data or default) == b"true" for output in outputs}


def to_bytes(values: Sequence[str] | Sequence[float]) -> bytes:
    """A tensor of BYTES or FP32."""
    if values and isinstance(values[0], str):
        encoded = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(one)) + one for one in encoded)
    return struct.pack(f"<{len(values)}f", *values)


def _shape(raw: msgspec.Raw) -> list[int]:
    """Bounded before it is multiplied: a product of many large numbers takes for ever."""
    with suppress(msgspec.ValidationError):
        shape: list[int] = _decoded(SHAPE, raw if len(raw) <= SHORT else b"[]")
        if max(shape) <= max(math.prod(shape), 1) <= MOST_ELEMENTS:
            return shape
    raise Refused(400, f"inputs[0].shape: must be 1 to {MOST_DIMENSIONS} whole numbers, whose product is the elements")


def _strings(raw: msgspec.Raw) -> list[str]:
    """Of a list, or of lists within a list; the decoder stops where it is neither."""
    with suppress(msgspec.ValidationError):
        return list(_decoded(STRINGS, raw))
    with suppress(msgspec.ValidationError):
        if bytes(raw).count(b"[") <= MOST_LISTS:
            return [text for row in _decoded(LISTS, raw) for text in row]
    raise Refused(400, "inputs[0].data: must be a list of strings")


def _elements(tensors: memoryview, size: bytes, count: int) -> list[str]:
    if not (size.isdigit() and len(size) <= MOST_DIGITS and int(size) == len(tensors)):
        raise Refused(400, "inputs[0].parameters.binary_data_size: must be the number of bytes behind the JSON")
    found, place = [], 0
    for number in range(count):
        start = place + 4
        place = start + (struct.unpack_from("<I", tensors, place)[0] if start <= len(tensors) else 0)
        if place > len(tensors):
            raise Refused(400, f"inputs[0]: the bytes end before element {number} does")
        try:
            found.append(str(tensors[start:place], "utf-8"))
        except UnicodeDecodeError:
            raise Refused(400, f"inputs[0]: element {number} is not UTF-8") from None
    if place < len(tensors):
        raise Refused(400, f"inputs[0].shape: says {count} elements, but there are bytes of more")
    return found


def _read(decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw, what: str) -> Any:
    """What a part of a request says; Refused with 400 where it is something else."""
    try:
        return _decoded(decoder, raw)
    except msgspec.ValidationError as error:
        raise Refused(400, f"{what}: {error}") from None


def _decoded(decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw) -> Any:
    """The same, but ValidationError where it is something else, and Refused where it is not JSON."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the request is not JSON: {error}") from None
