"""Traces: a span a request, with what it needs and no text, and nothing where nobody asks for them."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.traces import SECONDS_TO_SEND, Traced, Traces
from tests.conftest import ROOT
from tests.test_serving_main import server, wait_until_ready

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "a secret text"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Takes spans; its address, and what it was sent."""
    taken: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            taken.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", taken
        listening.shutdown()


def ask(address: str, body: bytes = f'{{"inputs": "{SECRET}"}}'.encode()) -> int:
    headers = {"Content-Type": "application/json", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    try:
        with urlopen(Request(address, body, headers)) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


def spans_of(taken: list[bytes]) -> list[tuple[str, dict[str, Any], Any]]:
    found = []
    for data in taken:
        for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    values = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
                    found.append((span.name, values, span))
    return found


def test_each_request_has_a_span_and_no_text_stands_in_it(
    shared_checkpoint: Path, collector: tuple[str, list[bytes]]
) -> None:
    endpoint, taken = collector
    flags = ("--checkpoint", shared_checkpoint, "--traces", "true")
    with server(*flags, **{ENDPOINT: endpoint}) as (process, address):
        wait_until_ready(address)
        statuses = [ask(f"{address}/{path}") for path in ("predict", "hf/weather", "predict/stream", "nothing")]
        statuses += [ask(f"{address}/predict", b"{"), ask(f"{address}/models/weather/predict")]
        process.terminate()
        _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert statuses == [200, 200, 200, 404, 400, 200]
    spans = [one for one in spans_of(taken) if one[1]["url.path"] != "/health/ready"]
    assert sorted((name, values["http.response.status_code"]) for name, values, _ in spans) == [
        ("POST", 404), ("POST /hf/{name}", 200), ("POST /models/weather/predict", 200), ("POST /predict", 200),
        ("POST /predict", 400), ("POST /predict/stream", 200),
    ]  # fmt: skip
    for _, values, span in spans:
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert (values["http.request.method"], values["url.scheme"]) == ("POST", "http")
        assert span.kind == span.SPAN_KIND_SERVER
        assert span.status.code == span.status.STATUS_CODE_UNSET
        assert span.end_time_unix_nano > span.start_time_unix_nano
    assert b"nlp_app" in taken[0]
    assert not any(SECRET.encode() in data for data in taken)


def traced(app: ASGIApp, **scope: Any) -> tuple[ReadableSpan, list[str]]:
    """The span of a request, and what was sent."""
    exporter = InMemorySpanExporter()
    traces = Traces.__new__(Traces)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces.tracer = provider.get_tracer("test")
    sent: list[str] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    usual = {"type": "http", "method": "POST", "path": "/x", "scheme": "http", "headers": []}
    with contextlib.suppress(KeyError):
        asyncio.run(Traced(app, traces=traces)(usual | scope, receive, send))
    (span,) = exporter.get_finished_spans()
    return span, sent


@pytest.mark.parametrize(
    ("status", "code"), [(200, StatusCode.UNSET), (422, StatusCode.UNSET), (503, StatusCode.ERROR)]
)
def test_what_the_server_could_not_do_is_an_error(status: int, code: StatusCode) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    span, sent = traced(app, method="ODD")
    assert sent == ["http.response.start", "http.response.body"]
    assert (span.name, span.status.status_code, span.parent) == ("HTTP", code, None)
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == status


def test_of_an_exception_the_span_has_no_words_and_of_a_long_path_the_beginning() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["answers"] = "/known"
        raise KeyError(SECRET)

    span, sent = traced(app, path="/" + "x" * 5000)
    assert (span.name, span.status.status_code, span.status.description) == ("POST /known", StatusCode.ERROR, None)
    assert (len(str((span.attributes or {})["url.path"])), sent) == (200, [])
    assert SECRET not in span.to_json()


def test_no_header_writes_to_the_log(shared_checkpoint: Path, collector: tuple[str, list[bytes]]) -> None:
    odd = {
        "baggage": "forged line, =,;;," + ",".join(f"a{number}=b" for number in range(300)) + "x" * 9000,
        "traceparent": "00-zz", "tracestate": "=,=,\u00ff" + ",".join(f"a{number}=b" for number in range(40)),
    }  # fmt: skip
    flags = ("--checkpoint", shared_checkpoint, "--traces", "true")
    with server(*flags, **{ENDPOINT: collector[0]}) as (process, address):
        wait_until_ready(address)
        for headers in (odd, {**odd, "traceparent": f"00-{TRACE}-{PARENT}-01"}):
            with urlopen(Request(f"{address}/health/live", headers=headers)) as response:
                assert response.status == 200
        process.terminate()
        _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")


def test_a_collector_that_hangs_holds_nobody_up(shared_checkpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        flags = ("--checkpoint", shared_checkpoint, "--traces", "true")
        with server(*flags, OTEL_BSP_SCHEDULE_DELAY="1", **{ENDPOINT: endpoint}) as (process, address):
            wait_until_ready(address)
            with silent.accept()[0]:  # a span is on its way, and nobody says that it came
                assert [ask(f"{address}/predict") for _ in range(20)] == [200] * 20
                process.terminate()
                assert process.wait(SECONDS_TO_SEND + 5) == 0


def test_the_service_is_called_as_the_variable_says(
    shared_checkpoint: Path, collector: tuple[str, list[bytes]]
) -> None:
    endpoint, taken = collector
    flags = ("--checkpoint", shared_checkpoint, "--traces", "true")
    with server(*flags, OTEL_SERVICE_NAME="desk", **{ENDPOINT: endpoint}) as (process, address):
        wait_until_ready(address)
        process.terminate()
        process.communicate()
    assert b"desk" in taken[0]
    assert b"nlp_app.serving" in taken[0]


def test_a_collector_that_is_not_there_stops_no_answer_and_no_end(shared_checkpoint: Path) -> None:
    flags = ("--checkpoint", shared_checkpoint, "--traces", "true")
    with server(*flags, **{ENDPOINT: "http://127.0.0.1:9"}) as (process, address):
        wait_until_ready(address)
        assert [ask(f"{address}/predict") for _ in range(20)] == [200] * 20
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(errors.splitlines()) < 10, errors


def test_without_traces_nothing_of_them_is_imported(shared_checkpoint: Path) -> None:
    program = (
        "import sys; from serving.settings import Settings; from serving.app import create_app\n"
        f"app = create_app(Settings(checkpoint={str(shared_checkpoint)!r}))\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk') or name == 'serving.traces'])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "[]\n"


def test_a_package_that_is_missing_is_said_in_a_sentence(shared_checkpoint: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None; from nlp_app.errors import run_command\n"
        "import serving.__main__ as s; run_command(s.main)"
    )
    arguments = ["--checkpoint", str(shared_checkpoint), "--port", "0", "--traces", "true"]
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: --traces needs the package opentelemetry.sdk.trace, which is not there: pip install 'nlp_app[traces]'\n"
    )
