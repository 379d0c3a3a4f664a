"""A process that serves: the one there is, or one of several workers."""

import asyncio
import contextlib
import functools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from nlp_app.errors import NlpAppError
from nlp_app.heap import keep_little, resident
from serving.admin import HEADERS, State, serve_admin
from serving.app import create_app
from serving.connections import Connections
from serving.logs import log_config
from serving.need import check_memory
from serving.protocol import Protocol
from serving.settings import Settings
from serving.workers import REPORT_S

FILES_LEFT = 64
"""Open files that are no connections."""
logger = logging.getLogger(__name__)


class Process(uvicorn.Server):
    """A process that answers."""

    def __init__(self, *, settings: Settings, admin: socket.socket | None, reports: socket.socket | None) -> None:
        self.failures: list[NlpAppError] = []
        self.app: FastAPI = create_app(settings, on_failure=self._fail)
        self.app.state.loads_first = reports is not None
        self.peers = connections_of(settings)
        self._admin = admin
        self._reports = reports
        self._beside: list[asyncio.Task[None]] = []
        super().__init__(config_of(settings, self.app, self.peers))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, on the admin port too, and to report."""
        self._beside.append(asyncio.create_task(self._sweep()))
        if self._admin is not None:
            keys = self.app.state.admin_keys
            serving = serve_admin(self._admin, keys=keys, state=self.state, reload=self._reload)
            self._beside.append(asyncio.create_task(serving))
        if self._reports is not None:
            self._beside.append(asyncio.create_task(self._report(self._reports)))
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted, and end."""
        await super().shutdown(sockets)
        for task in self._beside:
            task.cancel()

    def state(self) -> State:
        """What the admin port tells of this process."""
        models = self.app.state.models
        ready = all(slot.current.ready for slot in models)
        gauges = {
            "workers_ready": int(ready),
            "waiting_texts": sum(slot.current.waiting for slot in models),
            "max_waiting_texts": self.app.state.settings.max_waiting * len(list(models)),
            "connections": len(self.peers),
            "max_connections": self.peers.most,
            "resident_bytes": resident(),
        }
        versions = [(slot.served.called, slot.version) for slot in models if slot.current.ready]
        live = not any(slot.current.lost for slot in models)
        return State(self.app.state.measures.to_json(), gauges, ready, live, versions)

    def _fail(self, error: NlpAppError) -> None:
        self.failures.append(error)
        self.should_exit = True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.peers.sweep(asyncio.get_running_loop().time())

    def _reload(self) -> None:
        self.app.state.reload_soon()

    async def _report(self, reports: socket.socket) -> None:
        """Tell the supervisor how it is, until it is gone: then end."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                now = self.state()
                report = {
                    "ready": now.ready and self.started, "lost": not now.live, "measures": now.values,
                    "gauges": now.gauges, "answering": now.versions,
                    "versions": [slot.current.version for slot in self.app.state.models],
                }  # fmt: skip
                await loop.sock_sendall(reports, json.dumps(report).encode() + b"\n")
                await asyncio.sleep(REPORT_S)
        self.should_exit = True


def serve(
    settings: Settings,
    listening: socket.socket,
    *,
    admin: socket.socket | None,
    reports: socket.socket | None = None,
    announce: Callable[[Settings, socket.socket], None] | None = None,
) -> int:
    """Serve in this process until SIGTERM or Ctrl-C; gives the exit code.

    Args:
        settings: of the server.
        listening: where it is asked.
        admin: where it tells of itself, and is told to reload.
        reports: to the supervisor.
        announce: called once signals are minded.

    Raises:
        NlpAppError: a checkpoint cannot be loaded, or there is too little memory for it.
    """
    check_memory(settings)
    keep_little()
    server = Process(settings=settings, admin=admin, reports=reports)

    def ask_to_exit(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once it has shut down: without a handler that would end us with 143.
        # Until uvicorn has handlers of its own, ours must not swallow the signal either.
        signal.signal(number, ask_to_exit)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: server.app.state.reload_soon())
    if announce is not None:
        announce(settings, listening)
    server.run(sockets=[listening])
    if server.failures:
        raise server.failures[0]
    if any(slot.abandoned for slot in server.app.state.models):  # Python would wait for the thread for ever
        logger.error("the model does not answer: the server has stopped without it")
        os._exit(1)
    return 0


def connections_of(settings: Settings) -> Connections:
    """The bounds of a process on them."""
    return Connections(
        most=max(1, min(settings.max_connections, most_files() - FILES_LEFT)),
        most_per_client=settings.max_connections_per_client,
        header_s=settings.header_timeout_s,
        body_s=settings.body_timeout_s,
        unread=settings.max_unread_bytes,
    )


def config_of(settings: Settings, app: FastAPI, peers: Connections) -> uvicorn.Config:
    """How uvicorn serves the app."""
    around = settings.traces or settings.cors_origins  # done around the whole application
    posts = {} if around else app.state.posts
    http: Any = functools.partial(Protocol, posts=posts, peers=peers, measures=app.state.measures, limits=settings)
    return uvicorn.Config(
        app,
        http=http,
        ws="none",
        log_level=settings.log_level,
        log_config=log_config(settings.log_format, settings.log_level),
        access_log=False,
        server_header=False,
        headers=HEADERS,
        timeout_graceful_shutdown=settings.seconds_to_finish,
    )


def most_files() -> int:
    """Open files that the process may have: as many as the system lets it."""
    if sys.platform == "win32":
        return 1024
    import resource  # Windows has none

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize
