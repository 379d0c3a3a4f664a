"""What benchmarks.serving and benchmarks.chaos share: servers in processes of their own, and load for them.

`python -m benchmarks.serving_load noop PORT` is a FastAPI endpoint with our shapes that computes nothing,
`… litserve PORT CHECKPOINT` LitServe around the same module, `… predict CHECKPOINT FILE` the module without a server.
"""

import asyncio
import gc
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from http.client import OK, HTTPConnection, HTTPException
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol, cast

HOST = "127.0.0.1"
START_S = 30.0
"""A server that is not ready after that is none."""
POLL_S = 0.02
HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
DRAIN_S = 3.0
"""Answers are waited for so long after the last request."""
BATCH, BATCH_TIMEOUT_S = 32, 0.005
"""Of LitServe."""
OURS, MODULE = "serving", "benchmarks.serving_load"


# Servers


@contextmanager
def running(
    command: Sequence[object],
    *,
    core: int | None = None,
    files: int | None = None,
    environment: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process and its children in a group of their own, which is gone when this is left.

    Args:
        command: the program and its arguments.
        core: the only one that it may use.
        files: the most that it may have open.
        environment: variables beside those of this process.
        log: where its standard error goes, if not to that of this process.
    """
    prefix = ["setpriv", "--pdeathsig", "KILL"]  # however this process ends
    prefix += [] if core is None else ["taskset", "-c", str(core)]
    prefix += [] if files is None else ["prlimit", f"--nofile={files}:{files}"]
    process = subprocess.Popen(
        [*prefix, *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process)


def end_by_signal() -> None:
    """Let SIGTERM end this process as an exception does, so that the servers go with it."""

    def leave(*_: object) -> NoReturn:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, leave)


def end(process: subprocess.Popen[bytes], patience_s: float = 5.0) -> None:
    """Ask it to stop, then kill what is left of its group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def serve_command(checkpoint: Path, port: int, *flags: object) -> list[object]:
    """Our server, one thread."""
    common = ["--checkpoint", checkpoint, "--port", port, "--threads", 1, "--log-level", "warning"]
    return [sys.executable, "-m", OURS, *common, *flags]


def peer_command(name: str, *values: object) -> list[object]:
    """One of the programs of this file."""
    return [sys.executable, "-m", MODULE, name, *values]


def known_flags() -> set[str]:
    """Those of `python -m serving`."""
    told = subprocess.run([sys.executable, "-m", OURS, "--help"], check=True, capture_output=True, text=True)
    return set(re.findall(r"--[a-z][a-z-]*", told.stdout))


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


def status_of(pid: int, name: str) -> str:
    """A line of /proc/PID/status."""
    found = re.search(rf"^{name}:\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found[1] if found else ""


def resident_mb(pid: int) -> float:
    """Resident memory in MB of 10^6 bytes."""
    return int(status_of(pid, "VmRSS").split()[0]) * 1024 / 1e6


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for a signal."""
    return bool(int(status_of(pid, "SigCgt"), 16) >> (number - 1) & 1)


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


# Requests


def body_of(text: object, **others: object) -> bytes:
    """The JSON of a request."""
    return json.dumps({"inputs": text, **others}, ensure_ascii=False).encode()


def request_of(body: bytes, *headers: str, path: str = "/predict") -> bytes:
    """A whole POST of JSON."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {HOST}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + HEAD_END + body


def whole_answer(data: bytes) -> tuple[int, bytes] | None:
    """The status and the body of an answer; None while some of it is missing."""
    head = data.find(HEAD_END)
    if head < 0:
        return None
    length = LENGTH.search(data, 0, head)
    body = data[head + len(HEAD_END) :]
    if length is None or len(body) < int(length[1]):
        return None
    return int(data[9:12]), body


# Closed loop: wrk

SCRIPT = """
local requests, place = {}, 0
init = function(arguments)
  for body in io.lines(FILE) do
    requests[#requests + 1] = wrk.format("POST", "/predict", {["Content-Type"] = "application/json"}, body)
  end
end
request = function()
  place = place % #requests + 1
  return requests[place]
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nFOUND {"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "p50_ms": %f, "p99_ms": %f}\\n',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


def wrk(port: int, bodies: Iterable[bytes], *, connections: int, seconds: float, core: int) -> dict[str, float]:
    """Ask on so many connections, each as soon as it has its answer.

    Returns:
        requests, seconds, requests_s, refused (not 2xx or 3xx), broken (failed or timed out), p50_ms, p99_ms.
    """
    with tempfile.TemporaryDirectory() as folder:
        lines, script = Path(folder) / "bodies", Path(folder) / "script.lua"
        lines.write_bytes(b"".join(body + b"\n" for body in bodies))
        script.write_text(SCRIPT.replace("FILE", f"'{lines}'"))
        loads = ["-t", 1, "-c", connections, "-d", f"{max(1, round(seconds))}s", "-s", script]
        command = ["taskset", "-c", core, "wrk", *loads, f"http://{HOST}:{port}"]
        told = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    return read_wrk(told)


def read_wrk(told: str) -> dict[str, float]:
    """What the script above printed at the end."""
    found: dict[str, float] = json.loads(told.rpartition("FOUND ")[2])
    return {**found, "requests_s": (found["requests"] - found["refused"]) / found["seconds"]}


def has_wrk() -> bool:
    """Whether it is installed."""
    return shutil.which("wrk") is not None


# Open loop: by a schedule, whatever the answers


class Line(Protocol):
    """A connection that waits for no answer."""

    due: float

    def send(self, request: bytes, due: float) -> None:
        """Begin a request that was due then."""


class OpenLoop:
    """Requests at a constant rate over connections that are kept; latencies count from when a request was due."""

    def __init__(
        self,
        *,
        requests: Sequence[bytes],
        rate: float,
        seconds: float,
        waits: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Nothing is due before begin().

        Args:
            requests: sent in turn.
            rate: requests a second.
            seconds: for how long.
            waits: whether a request for which no connection is free waits for one; otherwise it is turned away, as
                a client is that nobody answers: a queue in the client would say nothing of the server.
            clock: the time in seconds.
        """
        self._requests = requests
        self._rate = rate
        self._waits = waits
        self._clock = clock
        self._start = 0.0
        self._count = int(rate * seconds)
        self._next = 0
        self._due: deque[float] = deque()
        self.free: deque[Line] = deque()
        self.flying = 0
        self.seconds = 0.0
        """From the first request to the last."""
        self.turned_away = 0
        self.broken = 0
        self.answers: list[tuple[int, float]] = []
        """Status and seconds of each answer."""
        self.late_s: list[float] = []
        """How long after it was due each request was sent where a connection was free: what the generator lags."""

    @property
    def done(self) -> bool:
        """Whether all is sent and answered."""
        return self._next >= self._count and not self.flying and not self._due

    @property
    def begun(self) -> int:
        """Requests that were due."""
        return self._next

    @property
    def sent_all(self) -> bool:
        """Whether no more will become due."""
        return self._next >= self._count

    def warm_up(self) -> None:
        """Ask once on every connection.

        A connection is open here before the server has accepted it, and one that is busy accepts few a second: of
        1,024 about 200 would have waited to the end of the load.
        """
        while self.free:
            self._send(self.free.popleft(), self._clock())

    def begin(self) -> None:
        """The first request is due now; what came of the warm-up is forgotten."""
        self.answers.clear()
        self.broken = 0
        self._start = self._clock()

    def ended(self) -> None:
        """The last request was due now, or before where the generator cannot keep pace."""
        self.seconds = self._clock() - self._start

    def tick(self) -> None:
        """Send what is due."""
        now = self._clock()
        while self._next < self._count and (due := self._start + self._next / self._rate) <= now:
            self._next += 1
            if self.free:
                self.late_s.append(now - due)
                self._send(self.free.popleft(), due)
            elif self._waits:
                self._due.append(due)
            else:
                self.turned_away += 1

    def answered(self, line: Line, status: int) -> None:
        """An answer has come whole, and its connection is free."""
        self.flying -= 1
        self.answers.append((status, self._clock() - line.due))
        self.opened(line)

    def opened(self, line: Line) -> None:
        """A connection is free."""
        if self._due:
            self._send(line, self._due.popleft())
        else:
            self.free.append(line)

    def lost(self, line: Line, asked: bool) -> None:
        """A connection has gone, with a request that has no answer or without."""
        if asked:
            self.flying -= 1
            self.broken += 1
        else:
            with suppress(ValueError):
                self.free.remove(line)

    def _send(self, line: Line, due: float) -> None:
        self.flying += 1
        line.send(self._requests[self._next % len(self._requests)], due)


class Connection(asyncio.Protocol):
    """A connection of an open loop."""

    def __init__(self, *, load: OpenLoop, gone: "asyncio.Future[None]") -> None:
        self.due = 0.0
        self._load = load
        self._gone = gone
        self._asked = False
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be used."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its classes
        self._load.opened(self)

    def send(self, request: bytes, due: float) -> None:
        """As of Line."""
        self.due, self._asked = due, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """A part of an answer, mostly all of it."""
        self._seen = self._seen + data if self._seen else data
        found = whole_answer(self._seen)
        if found is not None:
            self._seen, self._asked = b"", False
            self._load.answered(self, found[0])

    def connection_lost(self, _: Exception | None) -> None:
        """The server has closed it, or the load is over."""
        self._load.lost(self, self._asked)
        if not self._gone.done():
            self._gone.set_result(None)


def open_loop(load: OpenLoop, port: int, connections: int) -> None:
    """Run an open loop to its end, in this thread."""
    import uvloop

    allow_files(connections)
    gc.collect()
    gc.disable()
    try:
        uvloop.run(_offer(load, port, connections))
    finally:
        gc.enable()


def allow_files(count: int) -> None:
    """Let this process open so many files more than it has need of now, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count + 256, hard)), hard))


async def _offer(load: OpenLoop, port: int, connections: int) -> None:
    """Spin, since timers of a millisecond would be late by as much as an answer takes."""
    loop = asyncio.get_running_loop()
    kept = [loop.create_task(_keep_open(load, port)) for _ in range(connections)]
    await _until_free(load, connections)
    load.warm_up()
    await _until_free(load, connections)
    load.begin()
    while not load.sent_all:
        load.tick()
        await asyncio.sleep(0)
    load.ended()
    waited = loop.time() + DRAIN_S
    while not load.done and loop.time() < waited:
        await asyncio.sleep(POLL_S)
    for task in kept:
        task.cancel()
    await asyncio.gather(*kept, return_exceptions=True)


async def _until_free(load: OpenLoop, connections: int) -> None:
    """Wait for every connection."""
    loop = asyncio.get_running_loop()
    waited = loop.time() + START_S
    while len(load.free) < connections:
        if loop.time() > waited:
            raise RuntimeError(f"of {connections} connections {len(load.free)} were answered in {START_S:.0f} s")
        await asyncio.sleep(POLL_S)


async def _keep_open(load: OpenLoop, port: int) -> None:
    """A connection, and another when the server has closed it."""
    loop = asyncio.get_running_loop()
    while True:
        gone = loop.create_future()
        try:
            transport, _ = await loop.create_connection(partial(Connection, load=load, gone=gone), HOST, port)
        except OSError:
            await asyncio.sleep(POLL_S)
            continue
        try:
            await gone
        finally:
            transport.close()


# The peers


def noop(port: int) -> None:
    """Our shapes, FastAPI's own layers, and nothing behind them."""
    import uvicorn
    from fastapi import FastAPI

    from serving.schemas import EXAMPLE_ANSWER, PredictRequest, PredictResponse

    app = FastAPI()
    answer = PredictResponse.model_validate(EXAMPLE_ANSWER)

    @app.post("/predict")
    async def predict(_: PredictRequest) -> PredictResponse:
        return answer

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    uvicorn.run(app, host=HOST, port=port, access_log=False, log_level="warning", loop="uvloop", http="httptools")


@cache
def api_class() -> Any:
    """A LitAPI around Predictor; made when it is asked for, since the package is mostly not there."""

    class Api(import_module("litserve").LitAPI):  # type: ignore[misc]
        checkpoint: Path

        def setup(self, _: str) -> None:
            import torch

            from nlp_app import Predictor

            torch.set_num_threads(1)
            self.predictor = Predictor.load(self.checkpoint)

        def decode_request(self, request: dict[str, Any]) -> str:
            return str(request["inputs"])

        def batch(self, inputs: list[str]) -> list[str]:
            return inputs

        def predict(self, texts: list[str]) -> list[dict[str, Any]]:
            return [prediction.to_json() for prediction in self.predictor.predict(texts)]

        def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return output

        def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
            return {"predictions": [output]}

    Api.__qualname__ = "Api"
    return Api


def __getattr__(name: str) -> Any:
    """LitServe's worker, a process of its own, finds the class by its name."""
    if name == "Api":
        return api_class()
    raise AttributeError(name)


def litserve(port: int, checkpoint: Path) -> None:
    """The same module in batches of 32."""
    api = api_class()(max_batch_size=BATCH, batch_timeout=BATCH_TIMEOUT_S)
    api.checkpoint = checkpoint
    server = import_module("litserve").LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host=HOST, port=port, num_api_servers=1, log_level="warning", generate_client_file=False)


def predict(checkpoint: Path, texts: Path) -> None:
    """Print the texts a second of Predictor.predict on a file with a text a line as JSON; the median of 3 passes."""
    import torch

    from nlp_app import Predictor

    torch.set_num_threads(1)
    predictor = Predictor.load(checkpoint)
    asked = [json.loads(line)["inputs"] for line in texts.read_text().splitlines()]
    predictor.predict(asked[:1000])
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        predictor.predict(asked)
        taken.append(time.perf_counter() - begun)
    print(len(asked) / sorted(taken)[1])


def main() -> int:
    """Run one of the peers."""
    name, *values = sys.argv[1:]
    if name == "noop":
        noop(int(values[0]))
    elif name == "litserve":
        litserve(int(values[0]), Path(values[1]))
    else:
        predict(Path(values[0]), Path(values[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
