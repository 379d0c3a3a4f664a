"""`python -m benchmarks.fuzz`: hostile requests to a real server, each answer and each line of the log judged.

Nothing may be answered by 5xx but 503 and 504, hang, or be torn; no line of the log may be a client's, nor hold a text.
"""

import argparse
import asyncio
import json
import re
import socket
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from benchmarks.common import markdown
from benchmarks.fuzz_cases import FORGED, SECRET, Case, make_case
from benchmarks.http_bytes import HEAD_END, LENGTH, body_of
from benchmarks.processes import end_by_signal, running
from benchmarks.servers import HOST, ask, free_port, serve_command, wait_ready
from nlp_app.errors import run_command
from training.console import make_console

CLIENTS = 24
PATIENCE_S = 20.0
"""Nothing takes a server so long: a request by itself is read, computed and answered in a tenth of a second."""
KNOWN_EVERY = 2_000
BY_DESIGN = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
KEYS = {"time", "level", "logger", "message", "id", "method", "path", "status", "ms"}
ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
JSON = re.compile(rb"\r\ncontent-type: *application/json", re.IGNORECASE)
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
KNOWN = body_of(["where is my card", "charged twice"], top_k=3)


@dataclass
class Findings:
    """What became of the cases."""

    statuses: Counter[int] = field(default_factory=Counter)
    closed: int = 0
    """Connections that were closed without an answer."""
    faults: list[str] = field(default_factory=list)

    def fault(self, number: int, what: str) -> None:
        """Something that may never be."""
        self.faults.append(f"case {number}: {what}")


class Torn(ValueError):
    """No whole answer."""


def take_answer(data: bytes) -> tuple[int, bytes, int] | None:
    """Of the bytes that a server has sent: the status and the body of the first answer, and where it ends.

    Returns:
        None while a part is missing; what is said before an answer (1xx) is left out.

    Raises:
        Torn: it is no HTTP, or claims to be JSON and is none.
    """
    start = 0
    while (end := data.find(HEAD_END, start)) >= 0:
        head, found = data[start:end], STATUS.match(data, start)
        if found is None:
            raise Torn(f"no HTTP: {data[start : start + 80]!r}")
        start, status = end + len(HEAD_END), int(found[1])
        if status >= HTTPStatus.OK:
            break
    else:
        if data and not STATUS.match(data[:13].ljust(13)) and not b"HTTP/1.1 ".startswith(data[:9]):
            raise Torn(f"no HTTP: {data[:80]!r}")
        return None
    body, stop = _body(data, start, head)
    if body is None:
        return None
    if JSON.search(head) and body:
        try:
            json.loads(body)
        except ValueError as error:
            raise Torn(f"no JSON: {error}: {body[:80]!r}") from None
    return status, body, stop


def _body(data: bytes, start: int, head: bytes) -> tuple[bytes | None, int]:
    if length := LENGTH.search(head):
        stop = start + int(length[1])
        return (data[start:stop] if len(data) >= stop else None), stop
    if not CHUNKED.search(head):
        return b"", start
    parts: list[bytes] = []
    while (line := data.find(b"\r\n", start)) >= 0:
        size = int(data[start:line], 16)
        start = line + 2 + size + 2
        if len(data) < start:
            break
        if not size:
            return b"".join(parts), start
        parts.append(data[line + 2 : line + 2 + size])
    return None, start


class Client:
    """A connection, made anew where the server has closed it."""

    def __init__(self, *, port: int, findings: Findings) -> None:
        self._port = port
        self._findings = findings
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, number: int, case: Case) -> None:
        """Send a case and judge what comes of it."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await (self._one(number, case) if case.whole else self._raw(number, case))
        except TimeoutError:
            self._findings.fault(number, f"neither an answer nor an end in {PATIENCE_S:.0f} s")
            self.close()
        except (Torn, ValueError) as torn:
            self._findings.fault(number, str(torn))
            self.close()

    async def _one(self, number: int, case: Case) -> None:
        """One request, one answer; it may be that the connection was closed since the last one: then once more."""
        for _ in range(2):
            await self._connect()
            data, found = b"", None
            with suppress(ConnectionError):
                self._write(case.data)
                while found is None and (more := await self._reader.read(1 << 16)):
                    data += more
                    found = take_answer(data)
            if found is not None:
                self._note(number, found[0])
                if found[2] != len(data):
                    raise Torn(f"more than one answer: {data[found[2] :][:80]!r}")
                return
            self.close()
            if data:
                raise Torn(f"an answer breaks off: {data[:80]!r}")
        self._findings.closed += 1

    async def _raw(self, number: int, case: Case) -> None:
        """Bytes, and that no more come: the server may answer, and must close."""
        self.close()
        await self._connect()
        data = b""
        with suppress(ConnectionError):
            self._write(case.data)
            assert self._writer is not None
            self._writer.write_eof()
            while more := await self._reader.read(1 << 16):
                data += more
        self.close()
        answers = 0
        while (found := take_answer(data)) is not None:
            self._note(number, found[0])
            data, answers = data[found[2] :], answers + 1
        self._findings.closed += not answers

    def _note(self, number: int, status: int) -> None:
        self._findings.statuses[status] += 1
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in BY_DESIGN:
            self._findings.fault(number, f"answered by {status}")

    async def _connect(self) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
            linger = struct.pack("ii", 1, 0)  # leaves no port waiting
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _write(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)

    def close(self) -> None:
        """The next case has another connection."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


async def send_all(port: int, name: str, seed: int, numbers: Sequence[int]) -> Findings:
    """Send the cases, and see now and then that the server answers what it always did."""
    findings, left = Findings(), iter(numbers)
    expected = await asyncio.to_thread(ask, port, "POST", "/predict", KNOWN)

    async def work(client: Client) -> None:
        for number in left:
            await client.send(number, make_case(seed, number, name))
            if number % KNOWN_EVERY == 0 and await asyncio.to_thread(ask, port, "POST", "/predict", KNOWN) != expected:
                findings.fault(number, "after it, a right request was answered otherwise")
        client.close()

    await asyncio.gather(*(work(Client(port=port, findings=findings)) for _ in range(CLIENTS)))
    return findings


def judge_log(lines: Sequence[str]) -> Iterator[str]:
    """What is wrong with a log: each line is an object of the known keys, of the server's own words."""
    for line in lines:
        try:
            told = json.loads(line)
            known = (
                isinstance(told, dict) and told.keys() <= KEYS and {"time", "level", "logger", "message"} <= told.keys()
            )
        except ValueError:
            known = False
        if not known:
            yield f"no line of the server's: {line[:200]!r}"
        elif SECRET in line:
            yield f"holds a text: {line[:200]!r}"
        elif (
            told["level"] not in ("info", "warning")
            or FORGED in told["logger"]
            or not ID.fullmatch(told.get("id", "x"))
        ):
            yield f"forged, or an error: {line[:200]!r}"


def fuzz(checkpoint: Path, seed: int, numbers: Sequence[int]) -> tuple[Findings, int]:
    """Send cases to a server of its own; gives what was found, and how many lines its log had."""
    port = free_port()
    flags = ("--name", "fuzzed", "--access-log", "true", "--log-format", "json", "--log-level", "info")
    with tempfile.TemporaryFile() as log:
        with running(serve_command(checkpoint, port, *flags), log=log) as process:
            wait_ready(process, port)
            findings = asyncio.run(send_all(port, "fuzzed", seed, numbers))
            if process.poll() is not None:
                findings.faults.append(f"the server ended with {process.returncode}")
            process.terminate()
            if (code := process.wait(PATIENCE_S)) != 0:
                findings.faults.append(f"after SIGTERM the server ended with {code}")
        log.seek(0)
        lines = log.read().decode().splitlines()
    findings.faults += judge_log(lines)
    return findings, len(lines)


def section(findings: Findings, cases: int, lines: int) -> str:
    """Counts, and the first faults."""
    rows = [(str(status), f"{count:,}") for status, count in sorted(findings.statuses.items())]
    rows += [("closed without an answer", f"{findings.closed:,}"), ("lines of the log", f"{lines:,}")]
    verdict = "\n".join(findings.faults[:20]) or "No fault."
    return f"{cases:,} cases\n\n{markdown(('answered', 'times'), rows)}\n\n{verdict}"


def main() -> int:
    """Fuzz as the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=200_000, help="how many (default: 200,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="one case alone, which is shown")
    options = parser.parse_args()
    end_by_signal()
    numbers = range(options.cases) if options.case is None else [options.case]
    if options.case is not None:
        make_console().print(make_case(options.seed, options.case, "fuzzed"))
    findings, lines = fuzz(options.checkpoint, options.seed, numbers)
    make_console().print(section(findings, len(numbers), lines))
    return 1 if findings.faults else 0


if __name__ == "__main__":
    run_command(main)
