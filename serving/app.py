"""create_app: the FastAPI application around one checkpoint."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from nlp_app import __version__
from nlp_app.errors import NlpAppError
from serving.inference import Inference
from serving.limits import BodyLimit
from serving.problems import Refused
from serving.routes import router
from serving.settings import Settings


def create_app(settings: Settings | None = None, *, on_failure: Callable[[NlpAppError], None] | None = None) -> FastAPI:
    """Build the application; nothing is loaded until it starts.

    Args:
        settings: where they are left out, they are read from the environment.
        on_failure: called where the checkpoint cannot be loaded, after which the app answers 503 for good.
    """
    settings = settings or Settings()
    app: FastAPI = FastAPIOffline(
        title="nlp_app", version=__version__, summary="Text classification", lifespan=_lifespan
    )
    app.state.settings = settings
    app.state.on_failure = on_failure
    app.include_router(router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_exception_handler(Refused, _refuse)
    app.add_exception_handler(ClientDisconnect, _nobody_there)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model beside the running server, so that the health endpoints answer from the first moment."""
    app.state.inference = Inference(settings=app.state.settings)
    loading = asyncio.create_task(_load(app))
    yield
    await loading
    app.state.inference.close()


async def _load(app: FastAPI) -> None:
    await app.state.inference.load()
    if app.state.inference.failure and app.state.on_failure:
        app.state.on_failure(app.state.inference.failure)


async def _refuse(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response()


async def _nobody_there(_: Request, __: Exception) -> Response:
    return JSONResponse({"detail": "the client went away before its body was read"}, status_code=400)
