"""create_app: the FastAPI application around one checkpoint."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.requests import Request
from starlette.responses import Response

from nlp_app import __version__
from nlp_app.errors import NlpAppError
from serving.endpoint import Predict
from serving.inference import Inference
from serving.limits import FastPath
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
    app.state.inference = Inference(settings=settings)
    predict = Predict(inference=app.state.inference, settings=settings)
    app.state.posts = {b"/predict": predict}
    app.add_middleware(FastPath, posts={"/predict": predict}, max_bytes=settings.max_body_bytes)
    app.add_exception_handler(Refused, _refuse)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model beside the running server, so that the health endpoints answer from the first moment."""
    loading = asyncio.create_task(_load(app))
    watching = asyncio.create_task(app.state.inference.watch())
    yield
    await loading
    watching.cancel()
    await app.state.inference.close()


async def _load(app: FastAPI) -> None:
    await app.state.inference.load()
    if app.state.inference.failure and app.state.on_failure:
        app.state.on_failure(app.state.inference.failure)


async def _refuse(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response()
