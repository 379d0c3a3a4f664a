"""The admin port: metrics, the health of all workers, and reloads; it answers nobody unless it is asked to listen."""

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.keys import Keys
from serving.measures import Collector
from serving.problems import Refused

HEADERS = [("x-content-type-options", "nosniff"), ("cache-control", "no-store")]
"""Of every answer, on this port and the other."""


class State(NamedTuple):
    """What the admin port tells."""

    values: Mapping[str, Any]
    """As of Measures.to_json, of all workers."""
    gauges: Mapping[str, float]
    ready: bool
    live: bool
    versions: Sequence[tuple[str, str]]
    """Of each model of each process that is ready: its name, and the version that answers."""


def admin_app(*, state: Callable[[], State], reload: Callable[[], None], keys: Keys) -> Starlette:
    """GET /metrics, /health/live and /health/ready; POST /reload with an admin key."""

    async def metrics(_: Request) -> Response:
        now = state()
        registry = CollectorRegistry()
        registry.register(Collector(now.values, now.gauges, now.versions))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"}) if state().live else Refused(503, "no worker answers").response()

    async def ready(_: Request) -> Response:
        return JSONResponse({"status": "ready"}) if state().ready else Refused(503, "no worker is ready").response()

    async def reload_all(request: Request) -> Response:
        try:
            if not keys:
                raise Refused(403, "there is no admin key to reload with: give --admin-keys-file, or send SIGHUP")
            keys.check(dict(request.scope["headers"]))
        except Refused as refused:
            return refused.response()
        reload()
        return JSONResponse({"status": "reloading"}, 202)

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/reload", reload_all, methods=["POST"]),
        ]
    )


class Beside(uvicorn.Server):
    """A second server in one event loop, which leaves the signals to the first, and the log."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Until it is cancelled."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets)
        await self.main_loop()


async def serve_admin(
    listening: socket.socket, *, keys: Keys, state: Callable[[], State], reload: Callable[[], None]
) -> None:
    """Answer on the admin port until it is cancelled."""
    app = admin_app(state=state, reload=reload, keys=keys)
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,  # uvicorn's own would take the place of ours, for the whole process
        access_log=False,
        server_header=False,
        headers=HEADERS,
    )
    await Beside(config).serve(sockets=[listening])
