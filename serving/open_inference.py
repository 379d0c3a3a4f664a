"""The Open Inference Protocol, version 2, over HTTP: what clients of Triton, KServe and MLServer speak.

Input `text`, BYTES [n]; outputs `label`, BYTES [n], and `score`, FP32 [n]. With the header
Inference-Header-Content-Length the JSON is followed by tensors as bytes: of BYTES each element with its length before
it, 4 bytes, the lowest first (github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md).
"""

import math
import re
import struct
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nlp_app import __version__
from serving.asking import Found, ask, body_of, refusals
from serving.models import Models, Slot
from serving.problems import Refused
from serving.routes import models, named, settings, versioned, whole_path
from serving.settings import Settings

HEADER = "Inference-Header-Content-Length"
OUTPUTS = {"label": "BYTES", "score": "FP32"}
router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], dependencies=[Depends(whole_path)])


class Input(msgspec.Struct):
    """A tensor that is sent."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: dict[str, Any] = {}


class Output(msgspec.Struct):
    """A tensor that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class Inquiry(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[Input]
    id: str = ""
    outputs: list[Output] = []
    parameters: dict[str, Any] = {}


def _tensor(texts: int) -> dict[str, Any]:
    strings = {"type": "array", "items": {"type": "string"}, "minItems": texts, "maxItems": texts}
    named = {"name": {"const": "text"}, "datatype": {"const": "BYTES"}}
    properties = {**named, "shape": {"const": [texts]}, "data": strings}
    return {"type": "object", "properties": properties, "required": list(properties)}


PARAMETERS = {"type": "object"}
OUTPUT_SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": list(OUTPUTS)}, "parameters": PARAMETERS},
    "required": ["name"],
}
SCHEMA = {
    "type": "object",
    "description": "An inference request: shape says how many texts there are, which a schema can only say of a few.",
    "properties": {
        "id": {"type": "string"},
        "parameters": PARAMETERS,
        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"anyOf": [*map(_tensor, range(4))]}},
        "outputs": {"type": "array", "items": OUTPUT_SCHEMA},
    },
    "required": ["inputs"],
}
BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": SCHEMA}}}}
ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}
NOT: dict[int | str, dict[str, Any]] = {503: {"description": "Not now"}}
DECODER = msgspec.json.Decoder(Inquiry)


@router.get("", responses=refusals(401))
async def server() -> dict[str, Any]:
    """What the server is."""
    return {"name": "nlp_app", "version": __version__, "extensions": ["binary_tensor_data"]}


@router.get("/health/live", responses=NOT)
async def live(models: Annotated[Models, Depends(models)]) -> JSONResponse:
    """As /health/live."""
    alive = not any(slot.current.lost for slot in models)
    return JSONResponse({"live": alive}, 200 if alive else 503)


@router.get("/health/ready", responses=NOT)
async def ready(models: Annotated[Models, Depends(models)]) -> JSONResponse:
    """As /health/ready."""
    answers = all(slot.current.ready for slot in models)
    return JSONResponse({"ready": answers}, 200 if answers else 503)


@router.get("/models/{name}", responses=refusals(401, 404, 422))
async def metadata(slot: Annotated[Slot, Depends(named)], models: Annotated[Models, Depends(models)]) -> dict[str, Any]:
    """The tensors of a model."""
    return _metadata(slot, models)


@router.get("/models/{name}/versions/{version}", responses=refusals(401, 404, 422))
async def metadata_of_version(
    slot: Annotated[Slot, Depends(versioned)], models: Annotated[Models, Depends(models)]
) -> dict[str, Any]:
    """The tensors of a version of a model."""
    return _metadata(slot, models)


@router.get("/models/{name}/ready", responses=NOT | refusals(401, 404, 422))
async def model_ready(slot: Annotated[Slot, Depends(named)]) -> JSONResponse:
    """Whether a model answers."""
    return _ready(slot)


@router.get("/models/{name}/versions/{version}/ready", responses=NOT | refusals(401, 404, 422))
async def version_ready(slot: Annotated[Slot, Depends(versioned)]) -> JSONResponse:
    """Whether a version of a model answers."""
    return _ready(slot)


@router.post("/models/{name}/infer", responses=ANSWER | refusals(), openapi_extra=BODY)
async def infer(
    request: Request, slot: Annotated[Slot, Depends(named)], limits: Annotated[Settings, Depends(settings)]
) -> Response:
    """Classify texts."""
    return await _infer(request, slot, limits)


@router.post("/models/{name}/versions/{version}/infer", responses=ANSWER | refusals(), openapi_extra=BODY)
async def infer_version(
    request: Request, slot: Annotated[Slot, Depends(versioned)], limits: Annotated[Settings, Depends(settings)]
) -> Response:
    """Classify texts by a version of a model."""
    return await _infer(request, slot, limits)


def _metadata(slot: Slot, models: Models) -> dict[str, Any]:
    versions = [other.version for other in models if other.served.name == slot.served.name]
    return {
        "name": slot.served.name,
        "versions": versions,
        "platform": "nlp_app",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in OUTPUTS.items()],
    }


def _ready(slot: Slot) -> JSONResponse:
    return JSONResponse({"name": slot.served.name, "ready": slot.current.ready}, 200 if slot.current.ready else 503)


async def _infer(request: Request, slot: Slot, limits: Settings) -> Response:
    body = await body_of(request, limits)
    inquiry, tensors = _split(body, request.headers.get(HEADER))
    texts = read_texts(inquiry, tensors)
    names = _asked(inquiry)
    version = slot.version
    found = await ask(request, slot, texts, limits)
    answer: dict[str, Any] = {"model_name": slot.served.name, "model_version": version}
    if inquiry.id:
        answer["id"] = inquiry.id
    shape = next(one for one in inquiry.inputs if one.name == "text").shape
    return _response(answer, names, found, shape)


LENGTH = re.compile(r"0{0,9}[0-9]{1,9}")
"""A longer number is more bytes than a body has, and may take for ever to read."""
MOST_DIMENSIONS = 8


def _split(body: bytes, length: str | None) -> tuple[Inquiry, memoryview]:
    """The JSON of a body and the bytes behind it.

    Raises:
        Refused: 400, one of them is not there.
    """
    if length is not None and not (LENGTH.fullmatch(length) and int(length) <= len(body)):
        raise Refused(400, f"the header {HEADER} must be the number of bytes of the JSON, at most those of the body")
    end = len(body) if length is None else int(length)
    try:
        return DECODER.decode(body[:end]), memoryview(body)[end:]
    except msgspec.ValidationError as error:
        raise Refused(400, f"the request is no inference request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the request is not JSON: {error}") from None


def _says(shape: Sequence[int], count: int) -> bool:
    """Whether a shape is one of so many elements; bounded first, since a product without bounds takes for ever."""
    bounded = 1 <= len(shape) <= MOST_DIMENSIONS and all(0 <= one <= max(count, 1) for one in shape)
    return bounded and math.prod(shape) == count


def read_texts(inquiry: Inquiry, tensors: memoryview) -> list[str]:
    """The texts of the input `text`.

    Raises:
        Refused: 400, the input is not as the model's metadata says.
    """
    if [one.name for one in inquiry.inputs] != ["text"]:
        raise Refused(400, "inputs: must hold one input, text")
    (text,) = inquiry.inputs
    if text.datatype != "BYTES":
        raise Refused(400, "inputs[0].datatype: must be BYTES")
    size = text.parameters.get("binary_data_size")
    if size is None and len(tensors):
        raise Refused(400, "inputs[0].parameters.binary_data_size: is missing, but bytes follow the JSON")
    elements = _flat(text.data) if size is None else _elements(tensors, size)
    if not _says(text.shape, len(elements)):
        raise Refused(400, f"inputs[0].shape: does not say {len(elements)} elements, which are there")
    return elements


def _flat(data: Any) -> list[str]:
    """Strings, or lists of them, one within another to any depth."""
    found: list[str] = []
    rest = [data] if isinstance(data, list) else [None]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list):
            rest.extend(reversed(value))
        else:
            raise Refused(400, "inputs[0].data: must be a list of strings")
    return found


def _elements(tensors: memoryview, size: Any) -> list[str]:
    if type(size) is not int or size != len(tensors):
        raise Refused(400, "inputs[0].parameters.binary_data_size: must be the number of bytes behind the JSON")
    found, place = [], 0
    while place < size:
        start = place + 4
        place = start + (struct.unpack_from("<I", tensors, place)[0] if start <= size else size)
        if place > size:
            raise Refused(400, "inputs[0]: the bytes end within an element")
        try:
            found.append(str(tensors[start:place], "utf-8"))
        except UnicodeDecodeError:
            raise Refused(400, f"inputs[0]: element {len(found)} is not UTF-8") from None
    return found


def _asked(inquiry: Inquiry) -> dict[str, bool]:
    """The outputs that are asked for, and whether each is sent as bytes."""
    default = inquiry.parameters.get("binary_data_output", False) is True
    asked = inquiry.outputs or [Output(name) for name in OUTPUTS]
    for output in asked:
        if output.name not in OUTPUTS:
            raise Refused(400, f"outputs: there are {' and '.join(OUTPUTS)}, and no other")
    return {output.name: output.parameters.get("binary_data", default) is True for output in asked}


def _response(answer: dict[str, Any], names: dict[str, bool], found: Sequence[Found], shape: Sequence[int]) -> Response:
    tensors, outputs = [], []
    for name, binary in names.items():
        values = [getattr(one, name) for one in found]
        output: dict[str, Any] = {"name": name, "shape": list(shape), "datatype": OUTPUTS[name]}
        if binary:
            tensors.append(_bytes(values))
            output["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            output["data"] = values
        outputs.append(output)
    content = msgspec.json.encode({**answer, "outputs": outputs})
    if not tensors:
        return Response(content, media_type="application/json")
    headers = {HEADER: str(len(content))}
    return Response(content + b"".join(tensors), headers=headers, media_type="application/octet-stream")


def _bytes(values: Sequence[str] | Sequence[float]) -> bytes:
    if values and isinstance(values[0], str):
        encoded = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(one)) + one for one in encoded)
    return struct.pack(f"<{len(values)}f", *values)
