"""What the endpoints in other systems' shapes share: a body, and a label with scores for each text of it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import BaseModel
from starlette.requests import Request

from serving.batching import Item
from serving.endpoint import read_body
from serving.kinds import check_kind
from serving.models import Slot
from serving.problems import too_large
from serving.requests import check_count, check_encoding, check_length, declared, timeout_s
from serving.routes import REFUSALS_BY_NAME, check_version
from serving.settings import Settings


class Fault(BaseModel):
    """Why a request was refused, in one sentence."""

    error: str


class Found(msgspec.Struct):
    """What is read of a prediction."""

    label: str
    score: float
    scores: msgspec.Raw
    """As they are: to read every label of many texts would hold the event loop for long."""


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: of REFUSALS_BY_NAME those statuses, or all, as these systems call them."""
    return {
        status: {"model": Fault, "description": told["description"]}
        for status, told in REFUSALS_BY_NAME.items()
        if not statuses or status in statuses
    }


DECODER = msgspec.json.Decoder(Found)


async def body_of(request: Request, limits: Settings, *kinds: str) -> bytes:
    """The body of a request, of one of these content types.

    Raises:
        Refused: 413, it is too large; 415, it is of another type, or compressed.
    """
    headers = dict(request.scope["headers"])
    check_kind(headers, *kinds)
    check_encoding(headers)
    if declared(headers) > limits.max_body_bytes:
        raise too_large(limits.max_body_bytes)
    return await read_body(request.receive, limits.max_body_bytes)


async def ask(request: Request, slot: Slot, texts: Sequence[str], limits: Settings, *, top_k: int = 1) -> list[Found]:
    """The predictions for texts.

    Raises:
        Refused: 404, the version that the path names was replaced meanwhile; 422, they are too many or too long; 429,
            503 or 504, they are not answered.
    """
    check_version(slot, request.path_params.get("version"))
    deadline = asyncio.get_running_loop().time() + timeout_s(dict(request.scope["headers"]), limits)
    check_count(len(texts), explain=False, limits=limits)
    for place, text in enumerate(texts):
        check_length(text, f"text {place}", limits)
    if not texts:
        slot.current.check_ready()
        return []
    job = slot.current.submit([Item(text, top_k) for text in texts], deadline)
    return [DECODER.decode(answer) for answer in await job.answers]
