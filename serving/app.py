"""create_app: the FastAPI application around its checkpoints."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from nlp_app import __version__
from nlp_app.errors import NlpAppError
from serving import hugging_face, open_inference, routes, stream
from serving.endpoint import Predict
from serving.keys import Keys, admin_keys, client_keys
from serving.limits import FastPath
from serving.measures import CLOSED, Measures
from serving.models import Models
from serving.problems import Refused, key_of
from serving.settings import Settings

CORS: dict[str, Any] = {
    "allow_methods": ["GET", "POST"],
    "allow_headers": ["Authorization", "Content-Type", "X-API-Key", "X-Request-Id", "X-Request-Timeout-Ms"],
    "expose_headers": ["Retry-After", "X-Request-Id"],
}
"""What a page of another origin may send, and see."""


def create_app(settings: Settings | None = None, *, on_failure: Callable[[NlpAppError], None] | None = None) -> FastAPI:
    """Build the application; nothing is loaded until it starts.

    Args:
        settings: where they are left out, they are read from the environment.
        on_failure: called where a checkpoint cannot be loaded, after which the app answers 503 for good.
    """
    settings = settings or Settings()
    app: FastAPI = FastAPIOffline(
        title="nlp_app",
        version=__version__,
        summary="Text classification",
        lifespan=_lifespan,
        redirect_slashes=False,  # to where the client's own Host says
    )
    app.state.settings = settings
    app.state.on_failure = on_failure
    for router in (routes.router, stream.router, open_inference.router, hugging_face.router):
        app.include_router(router)
    app.state.measures = measures = Measures()
    app.state.models = models = Models(settings=settings, measures=measures)
    app.state.loads_first = False
    """Whether nothing is accepted before the models are there."""
    app.state.reload_soon = lambda: None  # before the app has started
    app.state.keys = keys = client_keys(settings)
    app.state.admin_keys = admin_keys(settings)
    app.state.posts = posts_of(models, settings, keys)
    app.add_middleware(
        FastPath,
        posts=app.state.posts,
        max_bytes=settings.max_body_bytes,
        keys=keys,
        measures=measures,
        access_log=settings.access_log,
    )
    app.state.traces = None
    if settings.traces:
        from serving.traces import Traced, Traces  # an extra

        app.state.traces = Traces()
        app.add_middleware(Traced, traces=app.state.traces)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origins, **CORS)
    app.add_exception_handler(Refused, _refuse)
    app.add_exception_handler(ClientDisconnect, _leave)
    app.add_exception_handler(HTTPException, _miss)
    return app


def posts_of(models: Models, settings: Settings, keys: Keys) -> dict[bytes, Predict]:
    """The endpoint of each path, as it stands in a request, that takes texts."""
    default = Predict(slot=models.default, settings=settings, keys=keys)
    posts = {b"/predict": default, f"/models/{quote(models.default.served.name, safe='')}/predict".encode(): default}
    for slot in models:
        name, version = (quote(part, safe="") for part in slot.served[:2])
        endpoint = Predict(slot=slot, settings=settings, keys=keys)
        posts.setdefault(f"/models/{name}/predict".encode(), endpoint)
        if version:
            posts[f"/models/{name}/versions/{version}/predict".encode()] = endpoint
    return posts


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the models beside the running server, so that the health endpoints answer from the first moment."""
    loop = asyncio.get_running_loop()
    reloading: set[asyncio.Task[list[NlpAppError]]] = set()

    def reload() -> None:
        for keys in (app.state.keys, app.state.admin_keys):
            keys.reload_or_tell()
        reloading.add(task := loop.create_task(app.state.models.reload()))
        task.add_done_callback(reloading.discard)

    app.state.reload_soon = lambda: loop.call_soon_threadsafe(reload)
    loading = asyncio.create_task(_load(app))
    watching = [asyncio.create_task(one) for one in (app.state.models.watch(), app.state.models.watch_folders())]
    if app.state.loads_first:
        await loading
    yield
    app.state.reload_soon = lambda: None
    await loading
    for task in watching:
        task.cancel()
    await app.state.models.close()
    if app.state.traces is not None:
        await loop.run_in_executor(None, app.state.traces.close)


async def _load(app: FastAPI) -> None:
    failure = await app.state.models.load()
    if failure is not None and app.state.on_failure:
        app.state.on_failure(failure)


async def _leave(request: Request, gone: Exception) -> Response:  # noqa: ARG001
    """Nobody is there to be told."""
    return Response(status_code=CLOSED)


async def _refuse(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response(key_of(request.url.path))


async def _miss(request: Request, missed: Exception) -> Response:
    """There is no such path, or not for this method."""
    assert isinstance(missed, HTTPException)
    return JSONResponse({key_of(request.url.path): missed.detail}, missed.status_code, headers=missed.headers)
