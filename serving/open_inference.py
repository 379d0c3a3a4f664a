"""The Open Inference Protocol, version 2, over HTTP: what clients of Triton, KServe and MLServer speak.

Input `text`, BYTES [n]; outputs `label`, BYTES [n], and `score`, FP32 [n]. With the header
Inference-Header-Content-Length the JSON is followed by tensors as bytes: of BYTES each element with its length before
it, 4 bytes, the lowest first (github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md).
serving/tensors.py reads and writes them.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nlp_app import __version__
from serving.asking import Found, ask, body_of, refusals
from serving.kinds import JSON
from serving.models import Models, Slot
from serving.routes import models, named, settings, versioned, whole_path
from serving.settings import Settings
from serving.tensors import HEADER, OUTPUTS, asked, read_texts, split, to_bytes

BYTES = "application/octet-stream"
"""Of JSON with tensors behind it."""
router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], dependencies=[Depends(whole_path)])


def _tensor(texts: int) -> dict[str, Any]:
    strings = {"type": "array", "items": {"type": "string"}, "minItems": texts, "maxItems": texts}
    named = {"name": {"const": "text"}, "datatype": {"const": "BYTES"}}
    properties = {**named, "shape": {"const": [texts]}, "data": strings}
    return {"type": "object", "properties": properties, "required": list(properties)}


PARAMETERS = {"type": ["object", "null"]}
OUTPUT_SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": list(OUTPUTS)}, "parameters": PARAMETERS},
    "required": ["name"],
}
SCHEMA = {
    "type": "object",
    "description": "An inference request: shape says how many texts there are, which a schema can only say of a few.",
    "properties": {
        "id": {"type": ["string", "null"]},
        "parameters": PARAMETERS,
        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"anyOf": [*map(_tensor, range(4))]}},
        "outputs": {"type": ["array", "null"], "items": OUTPUT_SCHEMA},
    },
    "required": ["inputs"],
}
BODY = {"requestBody": {"required": True, "content": {JSON: {"schema": SCHEMA}}}}
ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {BYTES: {}}}}
NOT: dict[int | str, dict[str, Any]] = {503: {"description": "Not now"}}


@router.get("", responses=refusals(401))
async def server() -> dict[str, Any]:
    """What the server is."""
    return {"name": "nlp_app", "version": __version__, "extensions": ["binary_tensor_data"]}


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", responses=NOT)
async def live(models: Annotated[Models, Depends(models)]) -> JSONResponse:
    """As /health/live."""
    alive = not any(slot.current.lost for slot in models)
    return JSONResponse({"live": alive}, 200 if alive else 503)


@router.head("/health/ready", include_in_schema=False)
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
    body = await body_of(request, limits, JSON, BYTES)
    inquiry, tensors = split(body, request.headers.get(HEADER))
    texts, shape = read_texts(inquiry.inputs[0], tensors, limits)
    names = asked(inquiry)
    version = slot.version
    found = await ask(request, slot, texts, limits)
    answer: dict[str, Any] = {"model_name": slot.served.name, "model_version": version}
    if inquiry.id:
        answer["id"] = inquiry.id
    return _response(answer, names, found, shape)


def _response(answer: dict[str, Any], names: dict[str, bool], found: Sequence[Found], shape: Sequence[int]) -> Response:
    tensors, outputs = [], []
    for name, binary in names.items():
        values = [getattr(one, name) for one in found]
        output: dict[str, Any] = {"name": name, "shape": list(shape), "datatype": OUTPUTS[name]}
        if binary:
            tensors.append(to_bytes(values))
            output["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            output["data"] = values
        outputs.append(output)
    content = msgspec.json.encode({**answer, "outputs": outputs})
    if not tensors:
        return Response(content, media_type=JSON)
    headers = {HEADER: str(len(content))}
    return Response(content + b"".join(tensors), headers=headers, media_type=BYTES)
