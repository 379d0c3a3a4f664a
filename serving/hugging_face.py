"""The shape of Hugging Face's text classification: what huggingface_hub.InferenceClient speaks."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from serving.asking import ask, body_of, refusals
from serving.kinds import JSON
from serving.models import Slot
from serving.problems import Refused
from serving.requests import whole
from serving.routes import named, settings, whole_path
from serving.settings import Settings

EVERY = 1 << 62
"""As many labels as there are."""
router = APIRouter(prefix="/hf", tags=["Hugging Face"], dependencies=[Depends(whole_path)])


class Parameters(msgspec.Struct):
    """What may be asked beside the texts; function_to_apply is taken and changes nothing: scores are probabilities."""

    top_k: int | float | None = None
    function_to_apply: str | None = None


class Inquiry(msgspec.Struct):
    """The JSON of a request."""

    inputs: str | list[str]
    parameters: Parameters | None = None
    options: msgspec.Raw = msgspec.Raw(b"{}")
    """Taken, and not read."""


TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
PARAMETERS = {
    "type": "object",
    "properties": {
        "top_k": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        "function_to_apply": {"type": ["string", "null"]},
    },
}
PROPERTIES = {"inputs": TEXTS, "parameters": {"anyOf": [PARAMETERS, {"type": "null"}]}, "options": {}}
SCHEMA = {"type": "object", "properties": PROPERTIES, "required": ["inputs"]}
BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": SCHEMA}}}}
DECODER = msgspec.json.Decoder(Inquiry)


@router.post("/{name}", responses=refusals(), openapi_extra=BODY)
async def classify(
    request: Request, slot: Annotated[Slot, Depends(named)], limits: Annotated[Settings, Depends(settings)]
) -> Response:
    """Every label, or the top_k best, with its probability: a list of them for each text."""
    try:
        inquiry = DECODER.decode(await body_of(request, limits, JSON))
    except msgspec.ValidationError as error:
        raise Refused(422, f"the body is no text classification request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    texts = [inquiry.inputs] if isinstance(inquiry.inputs, str) else inquiry.inputs
    asked = inquiry.parameters.top_k if inquiry.parameters else None
    top_k = EVERY if asked is None else whole(asked)
    found = await ask(request, slot, texts, limits, top_k=top_k)
    return Response(b"[" + b",".join(bytes(one.scores) for one in found) + b"]", media_type=JSON)
