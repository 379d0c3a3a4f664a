"""`python -m serving --checkpoint DIR`: serve a checkpoint over HTTP until SIGTERM or Ctrl-C, then exit with 0."""

from serving.signals import mind_signals, run_server

if __name__ == "__main__":
    mind_signals()

import argparse
import importlib
import os
import socket
import sys

from pydantic import ValidationError

from nlp_app.errors import ConfigError, OutputError
from serving.keys import admin_keys, client_keys
from serving.settings import Settings
from serving.unknown import warn_of_unknown
from serving.workers import VARIABLE, read_variable


def main() -> int:
    """Serve; gives the exit code."""
    if worker := os.environ.pop(VARIABLE, ""):
        return work(worker)
    warn_of_unknown(os.environ)
    settings = read_settings(sys.argv[1:])
    for keys_of in (client_keys, admin_keys):
        keys_of(settings)  # says what is wrong with them, before anything is loaded
    if settings.traces:
        importlib.import_module("serving.traces")  # says what is missing, before anything is loaded
    listening = listen(settings.host, settings.port, "")
    admin = None if settings.admin_port is None else listen(settings.admin_host, settings.admin_port, "admin-")
    if settings.workers > 1:
        from serving.supervisor import supervise

        announce(settings, listening)
        return supervise(settings, listening, admin=admin, argv=sys.argv[1:])
    from serving.process import serve  # which imports torch: a supervisor does without

    return serve(settings, listening, admin=admin, announce=announce)


def work(told: str) -> int:
    """Serve as one of several; gives the exit code."""
    listening, reports, checkpoints = read_variable(told)
    from serving.process import serve

    settings = read_settings(sys.argv[1:]).model_copy(update={"checkpoint": checkpoints})
    return serve(settings, listening, admin=None, reports=reports)


def announce(settings: Settings, listening: socket.socket) -> None:
    """Say where it listens, once it does."""
    address, port = listening.getsockname()[:2]
    names = ", ".join(dict.fromkeys(served.name for served in settings.checkpoint))
    print(f"serving {names} on http://{address}:{port} (API: http://{address}:{port}/docs)", flush=True)


def read_settings(argv: list[str]) -> Settings:
    """Flags over environment over defaults.

    Raises:
        ConfigError: a value breaks a rule.
    """
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve checkpoints over HTTP.")
    for name, field in Settings.model_fields.items():
        several = {"action": "append"} if name == "checkpoint" else {}
        told = f"{field.description} (also NLP_APP_{name.upper()})".replace("%", "%%")
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


def listen(host: str, port: int, flag: str) -> socket.socket:
    """The listening socket.

    Raises:
        OutputError: the address cannot be had, most often because the port is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", error)).partition(" (")[0]
        raise OutputError(
            f"cannot listen on {host}:{port} ({reason}): choose another --{flag}port or --{flag}host"
        ) from None


if __name__ == "__main__":
    run_server(main)
