"""The endpoints (docs/http-api.md)."""

import platform
from importlib import metadata
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from nlp_app import __version__
from serving.endpoint import Answer, Predict
from serving.inference import Inference
from serving.keys import Keys
from serving.models import Models, Slot
from serving.problems import Refused
from serving.schemas import Info, Limits, Model, PredictRequest, PredictResponse, Problem, Served, Status
from serving.settings import Settings


async def whole_path(request: Request) -> None:
    """404 where a line end follows the path, which the framework's patterns let pass."""
    if request.scope["path"].endswith("\n"):
        raise HTTPException(404)


PACKAGES = {"torch": "torch", "onnx": "onnxruntime"}
router = APIRouter(dependencies=[Depends(whole_path)])


async def models(request: Request) -> Models:
    """The models of the app that got this request."""
    found: Models = request.app.state.models
    return found


async def named(name: str, models: Annotated[Models, Depends(models)]) -> Slot:
    """The model that the path names; Refused with 404 where there is none."""
    return _found(models.find(name))


async def versioned(name: str, version: str, models: Annotated[Models, Depends(models)]) -> Slot:
    """The version of the model that the path names."""
    return _found(models.find(name, version))


def _found(slot: Slot | None) -> Slot:
    if slot is None:
        raise Refused(404, "there is no model of that name and version: GET /models lists what there is")
    return slot


def check_version(slot: Slot, version: str | None) -> None:
    """Once the body is there: 404 where another version has taken the place of the one that the path names, if any."""
    _found(slot if version in (None, slot.version) else None)


class PredictVersion(Predict):
    """Answers the requests that name a version of a model."""

    def __init__(self, *, version: str, slot: Slot, settings: Settings, keys: Keys) -> None:
        super().__init__(slot=slot, settings=settings, keys=keys)
        self._version = version

    @property
    def inference(self) -> Inference:
        """What answers now, which must still be of that version."""
        check_version(self._slot, self._version)
        return super().inference


async def settings(request: Request) -> Settings:
    """The settings of the app that got this request."""
    found: Settings = request.app.state.settings
    return found


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is not JSON"},
    401: {"model": Problem, "description": "The request has no valid API key"},
    408: {"model": Problem, "description": "The request was not sent in time"},
    413: {"model": Problem, "description": "The body is too large"},
    415: {"model": Problem, "description": "The body is of another type or encoding"},
    422: {"model": Problem, "description": "The body or a header breaks a rule"},
    429: {"model": Problem, "description": "Too many texts wait"},
    500: {"model": Problem, "description": "The server failed"},
    503: {"model": Problem, "description": "The model is not loaded yet, or does not answer"},
    504: {"model": Problem, "description": "The texts were not answered in time"},
}
UNREADY: dict[int | str, dict[str, Any]] = {status: REFUSALS[status] for status in (401, 503)}
NO_MODEL: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such model"},
    422: {"model": Problem, "description": "A header breaks a rule"},
}
REFUSALS_BY_NAME = REFUSALS | {404: NO_MODEL[404]}
BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": PredictRequest.model_json_schema()}}}
}


@router.post("/predict", response_model=PredictResponse, responses=REFUSALS, openapi_extra=BODY)
async def predict(request: Request, models: Annotated[Models, Depends(models)]) -> Response:
    """Classify one text or a list of texts."""
    return _answer(request, models.default)


@router.post("/models/{name}/predict", response_model=PredictResponse, responses=REFUSALS_BY_NAME, openapi_extra=BODY)
async def predict_by_name(request: Request, slot: Annotated[Slot, Depends(named)]) -> Response:
    """Classify texts by the model of a name."""
    return _answer(request, slot)


@router.post(
    "/models/{name}/versions/{version}/predict",
    response_model=PredictResponse, responses=REFUSALS_BY_NAME, openapi_extra=BODY,
)  # fmt: skip
async def predict_by_version(request: Request, version: str, slot: Annotated[Slot, Depends(versioned)]) -> Response:
    """Classify texts by a version of a model."""
    state = request.app.state
    return Answer(PredictVersion(version=version, slot=slot, settings=state.settings, keys=state.keys))


def _answer(request: Request, slot: Slot) -> Response:
    """Of a path that was spelt in another way than usual: the others are answered before the framework is asked."""
    return Answer(Predict(slot=slot, settings=request.app.state.settings, keys=request.app.state.keys))


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", responses={503: REFUSALS[503]})
async def live(models: Annotated[Models, Depends(models)]) -> Status:
    """Whether the process can go on: not, where a model has hung for ten seconds."""
    if any(slot.current.lost for slot in models):
        raise Refused(503, "the model has not answered for ten seconds: start the server again")
    return Status(status="live")


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", responses={503: REFUSALS[503]})
async def ready(models: Annotated[Models, Depends(models)]) -> Status:
    """Whether each model is loaded, has answered its golden inputs, and has answered lately."""
    for slot in models:
        slot.current.check_ready()
    return Status(status="ready")


@router.head("/health/startup", include_in_schema=False)
@router.get("/health/startup", responses={503: REFUSALS[503]})
async def startup(models: Annotated[Models, Depends(models)]) -> Status:
    """Whether every model was loaded."""
    for slot in models:
        _ = slot.current.loaded
    return Status(status="started")


@router.get("/models", responses={401: REFUSALS[401]})
async def list_models(models: Annotated[Models, Depends(models)]) -> list[Served]:
    """The models, the default first, and whether each answers."""
    return [Served(name=slot.served.name, version=slot.version, ready=slot.current.ready) for slot in models]


@router.get("/info", responses=UNREADY)
async def info(models: Annotated[Models, Depends(models)], limits: Annotated[Settings, Depends(settings)]) -> Info:
    """The labels, the limits, the versions, and how well the default model scored."""
    return _info(models.default, limits)


@router.get("/models/{name}/info", responses=UNREADY | NO_MODEL)
async def info_of(slot: Annotated[Slot, Depends(named)], limits: Annotated[Settings, Depends(settings)]) -> Info:
    """The same of another model."""
    return _info(slot, limits)


def _info(slot: Slot, limits: Settings) -> Info:
    checkpoint = slot.current.predictor.checkpoint
    return Info(
        model=Model(name=slot.served.name, version=checkpoint.version),
        labels=list(checkpoint.config.labels),
        limits=Limits(
            max_inputs=limits.max_inputs,
            max_explained=limits.max_explained,
            max_characters=limits.max_characters,
            max_body_bytes=limits.max_body_bytes,
            max_length=checkpoint.config.max_length,
        ),
        versions=_versions(limits.runtime),
        metrics=dict(checkpoint.metrics),
    )


def _versions(runtime: str) -> dict[str, str]:
    packages = {name: metadata.version(name) for name in (PACKAGES[runtime], "fastapi", "tokenizers")}
    return {"nlp_app": __version__, "python": platform.python_version(), **packages}
