"""`python -m serving --checkpoint DIR`: serve a checkpoint over HTTP until SIGTERM or Ctrl-C, then exit with 0."""

import argparse
import asyncio
import functools
import logging
import math
import os
import signal
import socket
import sys

from nlp_app.errors import ConfigError, NlpAppError, OutputError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

import uvicorn
from pydantic import ValidationError

from serving.app import create_app
from serving.connections import Connections
from serving.protocol import Protocol
from serving.settings import Settings

SECONDS_TO_FINISH = 15
"""Accepted requests have this long after SIGTERM, or as long as a request may take at most, which is more by default;
a client that stalls must not keep the server alive."""
FILES_LEFT = 64
"""Open files that are no connections."""


def main() -> int:
    """Serve; gives the exit code."""
    settings = read_settings(sys.argv[1:])
    listening = listen(settings)
    failures: list[NlpAppError] = []

    def stop(error: NlpAppError) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(settings, on_failure=stop)

    def ask_to_exit(*_: object) -> None:
        server.should_exit = True

    seconds = max(SECONDS_TO_FINISH, math.ceil(settings.request_timeout_s))
    peers = Connections(
        most=min(settings.max_connections, most_files() - FILES_LEFT),
        most_per_client=settings.max_connections_per_client,
        header_s=settings.header_timeout_s,
        body_s=settings.body_timeout_s,
    )

    async def sweep() -> None:
        peers.sweep(asyncio.get_running_loop().time())

    config = uvicorn.Config(
        app,
        http=functools.partial(Protocol, posts=app.state.posts, peers=peers),  # type: ignore[arg-type]
        ws="none",
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        headers=[("x-content-type-options", "nosniff"), ("cache-control", "no-store")],
        timeout_graceful_shutdown=seconds,
        callback_notify=sweep,
        timeout_notify=1,
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once it has shut down: without a handler that would end us with 143.
        # Until uvicorn has handlers of its own, ours must not swallow the signal either.
        signal.signal(number, ask_to_exit)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: app.state.reload_soon())
    address, port = listening.getsockname()[:2]
    names = ", ".join(app.state.models.names())
    print(f"serving {names} on http://{address}:{port} (API: http://{address}:{port}/docs)", flush=True)
    server.run(sockets=[listening])
    if failures:
        raise failures[0]
    if any(slot.current.abandoned for slot in app.state.models):  # Python would wait for the thread for ever
        logging.getLogger(__name__).error("the model does not answer: the server has stopped without it")
        os._exit(1)
    return 0


def read_settings(argv: list[str]) -> Settings:
    """Flags over environment over defaults.

    Raises:
        ConfigError: a value breaks a rule.
    """
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a checkpoint over HTTP.")
    for name, field in Settings.model_fields.items():
        several = {"action": "append"} if name == "checkpoint" else {}
        told = f"{field.description} (also NLP_APP_{name.upper()})"
        parser.add_argument(f"--{name.replace('_', '-')}", help=told, **several)  # type: ignore[arg-type]
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        detail = error.errors()[0]
        name = str(detail["loc"][0])
        value = "is not given" if detail["type"] == "missing" else f"is {detail['input']!r}: {detail['msg']}"
        raise ConfigError(f"--{name.replace('_', '-')} (or NLP_APP_{name.upper()}) {value}") from None
    for name, *_ in settings.checkpoint:
        if not name.isprintable():  # bytes that are no UTF-8 stand there as lone surrogates
            raise ConfigError(f"--name (or the folder's name) {name!r} is no printable text: choose another")
    return settings


def most_files() -> int:
    """Open files that the process may have: as many as the system lets it."""
    if sys.platform == "win32":
        return 1024
    import resource  # Windows has none

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


def listen(settings: Settings) -> socket.socket:
    """The listening socket.

    Raises:
        OutputError: the address cannot be had, most often because the port is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", error)).partition(" (")[0]
        raise OutputError(
            f"cannot listen on {settings.host}:{settings.port} ({reason}): choose another --port or --host"
        ) from None


if __name__ == "__main__":
    run_command(main)
