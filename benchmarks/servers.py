"""Our server as benchmarks start it, and one request to it."""

import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import OK, HTTPConnection, HTTPException
from pathlib import Path

HOST = "127.0.0.1"
START_S = 30.0
"""A server that is not ready after that is none."""
POLL_S = 0.02
OURS = ("serving",)


def serve_command(checkpoint: Path, port: int, *flags: object, program: Sequence[object] = OURS) -> list[object]:
    """Our server, one thread; the program is a module and what stands before the flags."""
    common = ["--checkpoint", checkpoint, "--port", port, "--threads", 1, "--log-level", "warning"]
    return [sys.executable, "-m", *program, *common, *flags]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server((HOST, 0)) as listening:
        return int(listening.getsockname()[1])


def wait_ready(process: subprocess.Popen[bytes], port: int, path: str = "/health/ready") -> float:
    """Ask until the answer is 200; gives the seconds that this took.

    Raises:
        RuntimeError: it ended, or is not ready in time.
    """
    begun = time.perf_counter()
    while time.perf_counter() - begun < START_S:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: its message stands above")
        with suppress(OSError, HTTPException):
            if ask(port, "GET", path)[0] == OK:
                return time.perf_counter() - begun
        time.sleep(POLL_S)
    raise RuntimeError(f"the server was not ready in {START_S:.0f} s")


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One request on a connection of its own: the status and the body of its answer."""
    connection = HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request(method, path, body, {} if body is None else {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
