"""The shape of Hugging Face's text classification: what huggingface_hub.InferenceClient speaks."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from serving.asking import ask, body_of
from serving.models import Slot
from serving.problems import Refused
from serving.routes import named, settings
from serving.settings import Settings

EVERY = 1 << 62
"""As many labels as there are."""
router = APIRouter(prefix="/hf", tags=["Hugging Face"])


class Parameters(msgspec.Struct):
    """What may be asked beside the texts; function_to_apply is taken and changes nothing: scores are probabilities."""

    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    function_to_apply: str | None = None


class Inquiry(msgspec.Struct):
    """The JSON of a request."""

    inputs: str | list[str]
    parameters: Parameters | None = None
    options: Any = None


DECODER = msgspec.json.Decoder(Inquiry)


@router.post("/{name}")
async def classify(
    request: Request, slot: Annotated[Slot, Depends(named)], limits: Annotated[Settings, Depends(settings)]
) -> Response:
    """Every label, or the top_k best, with its probability: a list of them for each text."""
    try:
        inquiry = DECODER.decode(await body_of(request, limits))
    except msgspec.ValidationError as error:
        raise Refused(422, f"the body is no text classification request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    texts = [inquiry.inputs] if isinstance(inquiry.inputs, str) else inquiry.inputs
    top_k = (inquiry.parameters and inquiry.parameters.top_k) or EVERY
    found = await ask(request, slot, texts, limits, top_k=top_k)
    return Response(msgspec.json.encode([one.scores for one in found]), media_type="application/json")
