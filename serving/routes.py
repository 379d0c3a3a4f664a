"""The endpoints (docs/http-api.md)."""

import platform
from importlib.metadata import version
from typing import Annotated, Any

import torch
from fastapi import APIRouter, Depends, HTTPException, Request, Response

from nlp_app import __version__
from serving.inference import Inference
from serving.problems import Refused
from serving.schemas import Info, Limits, Model, PredictRequest, PredictResponse, Problem, Status
from serving.settings import Settings

router = APIRouter()


async def inference(request: Request) -> Inference:
    """The inference thread of the app that got this request."""
    found: Inference = request.app.state.inference
    return found


async def settings(request: Request) -> Settings:
    """The settings of the app that got this request."""
    found: Settings = request.app.state.settings
    return found


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is not JSON"},
    413: {"model": Problem, "description": "The body is too large"},
    415: {"model": Problem, "description": "The body is of another type or encoding"},
    422: {"model": Problem, "description": "The body or a header breaks a rule"},
    429: {"model": Problem, "description": "Too many texts wait"},
    503: {"model": Problem, "description": "The model is not loaded yet, or does not answer"},
    504: {"model": Problem, "description": "The texts were not answered in time"},
}
BODY = {"required": True, "content": {"application/json": {"schema": PredictRequest.model_json_schema()}}}


@router.post("/predict", response_model=PredictResponse, responses=REFUSALS, openapi_extra={"requestBody": BODY})
async def predict(request: Request) -> Response:
    """Classify one text or a list of texts."""
    raise HTTPException(404, f"there is no such path as {request.url.path!r}")  # the right one is answered before


@router.get("/health/live", responses={503: REFUSALS[503]})
async def live(model: Annotated[Inference, Depends(inference)]) -> Status:
    """Whether the process can go on: not, where the model has hung for ten seconds."""
    if model.lost:
        raise Refused(503, "the model has not answered for ten seconds: start the server again")
    return Status(status="live")


@router.get("/health/ready", responses={503: REFUSALS[503]})
async def ready(model: Annotated[Inference, Depends(inference)]) -> Status:
    """Whether the model is loaded, has answered its golden inputs, and has answered lately."""
    _ = model.batcher
    if not model.answers_probes:
        raise Refused(503, "the model fails: ask another server")
    return Status(status="ready")


@router.get("/info", responses={503: REFUSALS[503]})
async def info(model: Annotated[Inference, Depends(inference)], limits: Annotated[Settings, Depends(settings)]) -> Info:
    """The labels, the limits, the versions, and how well the model scored."""
    checkpoint = model.predictor.checkpoint
    return Info(
        model=Model(name=limits.model_name, version=checkpoint.version),
        labels=list(checkpoint.config.labels),
        limits=Limits(
            max_inputs=limits.max_inputs,
            max_explained=limits.max_explained,
            max_characters=limits.max_characters,
            max_body_bytes=limits.max_body_bytes,
            max_length=checkpoint.config.max_length,
        ),
        versions=_versions(),
        metrics=dict(checkpoint.metrics),
    )


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("fastapi", "tokenizers")}
    return {"nlp_app": __version__, "python": platform.python_version(), "torch": torch.__version__, **packages}
