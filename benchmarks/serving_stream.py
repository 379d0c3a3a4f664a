"""The figure of benchmarks.serving of many texts in one request."""

import subprocess
import tempfile
import threading
from dataclasses import asdict
from http.client import NOT_FOUND, OK, HTTPResponse
from pathlib import Path
from socket import create_connection
from statistics import median
from time import perf_counter

from benchmarks.http_bytes import body_of
from benchmarks.servers import HOST
from benchmarks.serving_figures import ROUNDS, Figure
from benchmarks.serving_lab import SERVER_CORE, Lab, ours, peer_command

STREAMED = 20_000


def streamed(lab: Lab) -> list[Figure]:
    """Many texts in one request, beside the module without a server."""
    figure = Figure(name="texts/s of /predict/stream, of those in process", bar=0.7, at_least=True)
    lines = b"".join(body_of(lab.texts[row % len(lab.texts)]) + b"\n" for row in range(STREAMED))
    with ours(lab.checkpoint) as (port, _):
        status, _ = stream(port, lines[: lines.index(b"\n") + 1])
        if status != OK:
            reason = "there is no such path" if status == NOT_FOUND else f"the answer was {status}"
            return [Figure(**{**asdict(figure), "told": reason})]
        rates = [STREAMED / stream(port, lines)[1] for _ in range(ROUNDS)]
    alone = in_process(lab.checkpoint, lines)
    told = f"{median(rates):,.0f} of {alone:,.0f}, {STREAMED:,} texts"
    return [Figure(**{**asdict(figure), "value": median(rates) / alone, "told": told})]


def stream(port: int, lines: bytes) -> tuple[int, float]:
    """Send lines and read the answers meanwhile; gives the status and the seconds.

    Raises:
        RuntimeError: there is not one answer a line.
    """
    head = f"POST /predict/stream HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/x-ndjson\r\n"
    request = f"{head}Content-Length: {len(lines)}\r\nConnection: close\r\n\r\n".encode() + lines
    begun = perf_counter()
    with create_connection((HOST, port), timeout=60) as connection:
        sending = threading.Thread(target=connection.sendall, args=(request,), daemon=True)
        sending.start()
        answer = HTTPResponse(connection, method="POST")
        answer.begin()
        found = [line for line in answer.read().splitlines() if line]
    if answer.status == OK and (len(found) != lines.count(b"\n") or any(b'"label"' not in line for line in found)):
        raise RuntimeError(f"{len(found):,} answers came for {lines.count(bytes([10])):,} texts, or some are refusals")
    return answer.status, perf_counter() - begun


def in_process(checkpoint: Path, lines: bytes) -> float:
    """Texts a second of Predictor.predict, on the server's core."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_bytes(lines)
        command = ["taskset", "-c", SERVER_CORE, *peer_command("predict", checkpoint, path)]
        told = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    return float(told)
