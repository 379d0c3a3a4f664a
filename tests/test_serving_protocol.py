"""The requests that the protocol answers itself: in order with the others, whatever pieces they come in."""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httptools
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from serving import Settings, create_app
from serving.batching import Batcher, Bounds, Item
from serving.connections import Connections
from serving.inference import Inference
from serving.logs import Json, Lines, log_request, request_id
from serving.measures import Measures
from serving.protocol import Protocol
from tests.test_serving_batching import Clock, Model, Thread, expected, run, turns

PIPELINE_TURNS = 100
"""In which six requests through the framework are answered one after the other."""
LIMITS = {"max_body_bytes": 300, "max_inputs": 3, "max_headers": 5, "max_header_bytes": 400}


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.1", 5), "sockname": ("10.0.0.2", 80)})
        self.written = b""
        self.closed = False
        self.reads = True
        self.unread = 0

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write(self, data: Any) -> None:
        assert not self.closed, "nothing is written after the end"
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


class Site:
    """An app with a model that the test moves, and connections to it."""

    def __init__(self, loop: Clock, *, most: int = 100, most_per_client: int = 0) -> None:
        self.loop = loop
        self.thread = Thread()
        self.model = Model(self.thread)
        self.settings = Settings(checkpoint=Path("x"), **LIMITS)  # type: ignore[arg-type]
        app = create_app(self.settings)
        self.inference: Inference = app.state.models.default.current
        self.inference._around = b"[", b"]"
        self.inference._batcher = Batcher(model=self.model, thread=self.thread, bounds=Bounds(waiting=6))
        self.peers = Connections(most=most, most_per_client=most_per_client, header_s=10, body_s=30, unread=100)
        self.config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None)
        self.state = ServerState()
        self.state.default_headers = [(b"x-content-type-options", b"nosniff")]
        self.posts = app.state.posts
        self.measures: Measures = app.state.measures

    def connect(self) -> tuple[Protocol, Transport]:
        protocol = Protocol(
            config=self.config, server_state=self.state, app_state={}, _loop=self.loop, posts=self.posts,
            peers=self.peers, measures=self.measures, limits=self.settings,
        )  # fmt: skip
        transport = Transport()
        protocol.connection_made(transport)
        return protocol, transport

    async def finish(self) -> None:
        await turns(PIPELINE_TURNS)
        while self.thread.given:
            self.thread.finish()
            await turns(PIPELINE_TURNS)


def predict(text: str, *, headers: str = "", path: str = "/predict") -> bytes:
    body = json.dumps({"inputs": text}).encode()
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


def answer(text: str) -> bytes:
    return b"[" + expected(Item(text)) + b"]"


class Reader:
    """Takes responses apart, as a client does."""

    def __init__(self, data: bytes) -> None:
        self.responses: list[tuple[int, dict[str, str], bytes]] = []
        while data:
            self.headers: dict[str, str] = {}
            self.body, self.done = b"", False
            parser = httptools.HttpResponseParser(self)
            length = re.search(rb"content-length: (\d+)", data.partition(b"\r\n\r\n")[0])
            assert length is not None
            size = data.index(b"\r\n\r\n") + 4 + int(length[1])
            parser.feed_data(data[:size])
            assert self.done
            self.responses.append((parser.get_status_code(), self.headers, self.body))
            data = data[size:]

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


def outcomes(transport: Transport) -> list[tuple[int, bytes]]:
    return [(status, body) for status, _, body in Reader(transport.written).responses]


KINDS: dict[str, tuple[Callable[[int], bytes], Callable[[int], tuple[int, bytes]]]] = {
    "short": (lambda n: predict(f"s{n}"), lambda n: (200, answer(f"s{n}"))),
    "long": (lambda n: predict(f"l{n}".ljust(60)), lambda n: (200, answer(f"l{n}".ljust(60)))),
    "asgi": (
        lambda n: b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n", lambda n: (200, b'{"status":"live"}')
    ),
    "lost": (lambda n: predict(f"x{n}", path="/nowhere"), lambda n: (404, b'{"detail":"Not Found"}')),
    "wrong": (
        lambda n: b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}',
        lambda n: (
            422,
            b'{"detail":"inputs: is missing: send {\\"inputs\\": \\"a text\\"} or {\\"inputs\\": [\\"a text\\", '
            b'\\"another\\"]}"}',
        ),
    ),
    "query": (lambda n: predict(f"q{n}", path="/predict?x=1"), lambda n: (200, answer(f"q{n}"))),
    "chunked": (
        lambda n: b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (b'{"inp', b'uts": "c%d"}' % n, b"")),
        lambda n: (200, answer(f"c{n}")),
    ),
}  # fmt: skip


@given(
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6),
    cuts=st.lists(st.floats(0, 1), max_size=8),
    waits=st.lists(st.integers(0, 6), min_size=9, max_size=9),
)
@settings(max_examples=400)
def test_requests_of_a_connection_are_answered_in_order_whatever_pieces_they_come_in(
    kinds: list[str], cuts: list[float], waits: list[int]
) -> None:
    sent = b"".join(KINDS[kind][0](number) for number, kind in enumerate(kinds))
    places = sorted({0, len(sent), *(int(cut * len(sent)) for cut in cuts)})

    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        for start, stop, wait in zip(places, places[1:], waits, strict=False):
            protocol.data_received(sent[start:stop])
            await turns(wait)
        await site.finish()
        assert outcomes(transport) == [KINDS[kind][1](number) for number, kind in enumerate(kinds)]
        assert transport.reads
        assert not transport.closed
        assert protocol.idle
        protocol.connection_lost(None)
        assert len(site.peers) == 0

    run(main)


@given(left=st.integers(0, 3))
@settings(max_examples=10)
def test_what_a_client_that_has_gone_asked_is_not_computed(left: int) -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        connections = [site.connect() for _ in range(4)]
        for number, (protocol, _) in enumerate(connections):
            protocol.data_received(predict(f"{number}".ljust(60)))
        connections[left][0].connection_lost(None)
        await site.finish()
        asked = {item.text.strip() for _, batch in site.model.batches for item in batch}
        assert asked == {str(number) for number in range(4)} - {str(left)}
        assert not connections[left][1].written

    run(main)


@pytest.mark.parametrize("path", ["/predict", "/predict?usual=way"])
def test_of_requests_one_behind_the_other_none_is_answered_to_a_client_that_has_gone(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        for number in range(3):
            protocol.data_received(predict(f"{number}".ljust(60), path=path))
        await turns(PIPELINE_TURNS)
        protocol.connection_lost(None)
        await site.finish()
        assert not transport.written
        assert not site.inference.waiting

    run(main)
    assert not caplog.records


@pytest.mark.parametrize("path", ["/predict?usual=way", "/v2/models/x/infer", "/hf/x", "/predict/stream"])
def test_a_client_that_goes_in_the_midst_of_its_body_is_no_error(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        protocol.data_received(predict("gone", path=path)[:-3])
        await turns(PIPELINE_TURNS)
        sent = len(transport.written)
        protocol.connection_lost(None)
        await site.finish()
        assert len(transport.written) == sent

    run(main)
    assert not caplog.records


def respond(*pieces: bytes, kept: bool) -> list[tuple[int, dict[str, str], bytes]]:
    """What is answered, and whether the connection is kept."""

    async def main(loop: Clock) -> list[tuple[int, dict[str, str], bytes]]:
        site = Site(loop)
        protocol, transport = site.connect()
        for piece in pieces:
            protocol.data_received(piece)
            await turns()
        await site.finish()
        assert transport.closed != kept
        return Reader(transport.written).responses

    return run(main)


def test_an_answer_has_the_headers_of_every_answer() -> None:
    (status, headers, body), *rest = respond(predict("hi"), kept=True)
    assert not rest
    assert (status, body) == (200, answer("hi"))
    assert re.fullmatch("[0-9a-f]{16}", headers.pop("x-request-id"))
    assert headers == {
        "x-content-type-options": "nosniff", "content-type": "application/json", "content-length": str(len(body))
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a-1.B_c", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a b", False),
        ("a:b", False),
        ("\xe9", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict?x"])
def test_a_request_keeps_the_id_that_its_client_gave_it(given: str, kept: bool, path: str) -> None:
    sent = predict("hi", headers=f"x-request-id: {given}\r\n", path=path)
    ((status, headers, _),) = respond(sent, kept=True)
    found = headers["x-request-id"]
    assert (status, found == given) == (200, kept)
    assert kept or re.fullmatch("[0-9a-f]{16}", found)


def test_an_id_that_is_made_here_is_no_other_request_s() -> None:
    answers = respond(predict("hi") + predict("hi", path="/predict?x") + predict("hi"), kept=True)
    assert len({headers["x-request-id"] for _, headers, _ in answers}) == 3


def test_a_client_forges_no_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    record = logging.LogRecord("serving", logging.INFO, "f", 1, "%s", ("a\nERROR: forged\r\n",), None)
    text, told = (formatter.format(record) for formatter in (Lines("%(levelname)s: %(message)s"), Json()))
    assert text == "INFO: a\\nERROR: forged\\r\\n"
    assert json.loads(told)["message"] == "a\nERROR: forged\r\n"
    assert len(told.splitlines()) == 1
    with caplog.at_level(logging.INFO, "serving.access"):
        log_request(number=request_id({}), method="GET", path="/x\n\u2028ERROR" + "y" * 300, status=404, seconds=0.001)
    (line,) = caplog.messages
    assert len(line.splitlines()) == 1
    assert re.fullmatch(r"[0-9a-f]{16} GET /x\\n\\u2028ERRORy+\\u2026 404 1\.00 ms", line)
    assert json.loads(Json().format(caplog.records[0]))["status"] == 404


@pytest.mark.parametrize(
    "head", [b"POST /predict HTTP/1.0\r\n", b"POST /predict HTTP/1.1\r\nconnection: close\r\n"], ids=["1.0", "close"]
)
def test_a_connection_that_is_not_to_be_kept_is_closed(head: bytes) -> None:
    ((status, headers, _),) = respond(head + b'content-length: 14\r\n\r\n{"inputs":"x"}', kept=False)
    assert status == 200
    assert headers["connection"] == "close"


def test_a_body_is_asked_for_where_the_client_waits() -> None:
    head = b"POST /predict HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    refused = respond(head % 5000, kept=True)
    assert [status for status, *_ in refused] == [413]

    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        protocol.data_received(head % 14)
        assert transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        protocol.data_received(b'{"inputs":"x"}')
        await site.finish()
        assert transport.written.endswith(answer("x"))

    run(main)


def test_a_body_over_the_limit_is_dropped_as_it_comes_and_the_connection_goes_on() -> None:
    part = b"x" * 100
    head = b"POST /predict HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    responses = respond(head, *[b"64\r\n%s\r\n" % part] * 9, b"0\r\n\r\n", predict("next"), kept=True)
    assert [status for status, *_ in responses] == [413, 200]
    declared = b"POST /predict HTTP/1.1\r\ncontent-length: 900\r\n\r\n"
    responses = respond(declared, *[part] * 9, predict("next"), kept=True)
    assert [status for status, *_ in responses] == [413, 200]


@pytest.mark.parametrize("header", ["content-encoding: gzip\r\n", "content-type: text/plain\r\n"])
def test_what_the_headers_say_is_checked_before_the_body(header: str) -> None:
    responses = respond(predict("x", headers=header), predict("next"), kept=True)
    assert [status for status, *_ in responses] == [415, 200]


def test_a_queue_that_is_full_is_said_with_retry_after() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        connections = [site.connect() for _ in range(8)]
        for number, (protocol, _) in enumerate(connections):
            protocol.data_received(predict(f"{number}".ljust(60)))
        statuses = [[status for status, _ in outcomes(transport)] for _, transport in connections]
        assert statuses == [[]] * 6 + [[429]] * 2
        assert Reader(connections[-1][1].written).responses[0][1]["retry-after"] == "1"
        await site.finish()
        assert [len(outcomes(transport)) for _, transport in connections] == [1] * 8

    run(main)


def test_a_deadline_that_passes_is_said() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        protocol.data_received(predict("x".ljust(60), headers="x-request-timeout-ms: 2000\r\n"))
        await turns()
        loop.now = 2.0
        await turns()
        assert [status for status, _ in outcomes(transport)] == [504]
        await site.finish()
        assert len(outcomes(transport)) == 1

    run(main)


def test_a_fault_of_ours_is_a_500_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    (status, _, body), *rest = respond(predict("poison"), predict("next"), kept=True)
    assert (status, body) == (500, b'{"detail":"the server failed at this request: its log says how"}')
    assert [status for status, *_ in rest] == [200]
    assert "a request failed" in caplog.text


def test_a_server_that_stops_ends_connections_with_their_answers() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        (busy, busy_transport), (idle, idle_transport) = site.connect(), site.connect()
        busy.data_received(predict("x".ljust(60)))
        await turns()
        for protocol in (busy, idle):
            protocol.shutdown()
        assert idle_transport.closed
        assert not busy_transport.closed
        await site.finish()
        ((status, headers, _),) = Reader(busy_transport.written).responses
        assert (status, headers["connection"], busy_transport.closed) == (200, "close", True)

    run(main)


@contextmanager
def stalled(site: Site, *pieces: bytes) -> Iterator[Transport]:
    protocol, transport = site.connect()
    for piece in pieces:
        protocol.data_received(piece)
    yield transport
    protocol.connection_lost(None)


@pytest.mark.parametrize(
    ("pieces", "lives_s", "written"),
    [
        ((), 10, b""),
        ((b"POST /pre",), 10, b"408"),
        ((b"POST /predict HTTP/1.1\r\nhost: x\r\n", b"a: b\r\n"), 10, b"408"),
        ((b"POST /predict HTTP/1.1\r\ncontent-length: 20\r\n\r\n", b'{"in'), 30, b"408"),
        ((b"POST /nowhere HTTP/1.1\r\ncontent-length: 20\r\n\r\n", b'{"in'), 30, b"404"),
        ((b"POST /predict HTTP/1.1\r\ncontent-length: 900\r\n\r\n", b'{"in'), 30, b"413"),
    ],
)
def test_a_request_that_is_not_sent_in_time_ends_its_connection(
    pieces: tuple[bytes, ...], lives_s: float, written: bytes
) -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        with stalled(site, *pieces) as transport:
            await turns(PIPELINE_TURNS)
            site.peers.sweep(lives_s - 0.1)
            assert not transport.closed
            site.peers.sweep(lives_s)
            assert transport.closed
            assert [str(status).encode() for status, _ in outcomes(transport)] == [written] * bool(written)

    run(main)


def test_a_request_of_its_own_time_is_not_ended_by_the_sweep() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        protocol.data_received(predict("x".ljust(60)))
        await turns()
        site.peers.sweep(1e9)
        assert not transport.closed
        await site.finish()
        site.peers.sweep(1e9)
        assert not transport.closed, "what is kept without a request is uvicorn's keep-alive to end"

    run(main)


def test_where_there_is_no_room_the_oldest_idle_connection_makes_it() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop, most=3)
        (busy, busy_transport), (_, second), (_, third) = (site.connect() for _ in range(3))
        busy.data_received(predict("x".ljust(60)))
        _, fourth = site.connect()
        assert [one.closed for one in (busy_transport, second, third, fourth)] == [False, True, False, False]
        assert len(site.peers) == 3
        others = [site.connect() for _ in range(2)]
        assert [one.closed for one in (busy_transport, third, fourth)] == [False, True, True]
        for protocol, _ in others:
            protocol.data_received(b"POST")
        _, refused = site.connect()
        assert refused.closed, "each has begun to ask"

    run(main)


def test_a_connection_that_has_said_nothing_makes_room_before_one_that_is_kept() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop, most=3)
        (kept, kept_transport), (_, silent), (_, other) = (site.connect() for _ in range(3))
        kept.data_received(predict("x"))
        await site.finish()
        connections = [site.connect()[1] for _ in range(2)]
        assert [one.closed for one in (kept_transport, silent, other)] == [False, True, True]
        assert not any(one.closed for one in connections)

    run(main)


def test_a_client_may_have_so_many_connections() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop, most_per_client=2)
        (first, _), (_, second), (_, third) = (site.connect() for _ in range(3))
        assert [second.closed, third.closed] == [False, True]
        first.connection_lost(None)
        _, fourth = site.connect()
        assert not fourth.closed

    run(main)


def test_no_line_of_a_traceback_looks_like_a_line_of_the_log() -> None:
    forged = "of a client\nINFO: forged\rINFO: too\x0cINFO: and\u2028INFO: this"
    try:
        raise ValueError(forged)
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "a request failed", (), (type(error), error, None))
    record.stack_info = forged
    first, *rest = Lines("%(levelname)s: %(message)s").format(record).splitlines()
    assert first == "ERROR: a request failed"
    assert len(rest) >= 3
    assert all(line.startswith("    ") for line in rest)


def statuses(transport: Transport) -> list[int]:
    return [status for status, _, _ in Reader(transport.written).responses]


HEAD = b"GET /health/live HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"a: b\r\n" * 5 + b"\r\n"],
        [HEAD + b"a: " + b"b" * 400 + b"\r\n\r\n"],
        [b"GET /" + b"b" * 400 + b" HTTP/1.1\r\nhost: x\r\n\r\n"],
        [HEAD + b"a: b", *[b"b" * 100] * 5],
        [HEAD, *[b"a: b\r\n" * 20] * 9],
    ],
)
def test_a_head_that_is_too_long_ends_its_connection(pieces: list[bytes]) -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        for piece in pieces:
            protocol.data_received(piece)
        protocol.data_received(predict("nobody reads this"))
        await site.finish()
        assert (statuses(transport), transport.closed) == ([431], True)
        assert +site.measures.requests == {431: 1}
        assert not site.model.batches

    run(main)


def test_a_head_may_be_as_long_as_it_may() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        protocol.data_received(HEAD + b"a: b\r\n" * 4 + b"\r\n" + HEAD + b"a: " + b"b" * 360 + b"\r\n\r\n")
        await site.finish()
        assert (statuses(transport), transport.closed) == ([200, 200], False)

    run(main)


@pytest.mark.parametrize("rest", [b"no http at all\r\n\r\n", HEAD + b"a: b\r\n" * 9 + b"\r\n", b"\x00\x01"])
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_refused_at_once_is_never_taken_for_the_answer_to_what_waits(rest: bytes, count: int) -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        for number in range(count):
            protocol.data_received(predict(f"{number}".ljust(60)))
        await turns()
        protocol.data_received(rest)
        await site.finish()
        responses = Reader(transport.written).responses
        assert [body for _, _, body in responses] == [answer(f"{number}".ljust(60)) for number in range(count)]
        assert transport.closed

    run(main)


def test_after_an_answer_nothing_is_said_of_the_rest_of_its_body() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        protocol.data_received(b"POST /predict HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        protocol.data_received(b"190\r\n" + b" " * 400 + b"\r\n")
        protocol.data_received(b"no chunk at all\r\n")
        await site.finish()
        assert (statuses(transport), transport.closed) == ([413], True)

    run(main)


@pytest.mark.parametrize("path", ["/predict?a=/predict/stream", "/nowhere?/predict/stream"])
def test_only_a_stream_may_send_for_ever(path: str) -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        with stalled(site, f"POST {path} HTTP/1.1\r\ncontent-length: 20\r\n\r\n".encode(), b"{") as transport:
            await turns(PIPELINE_TURNS)
            site.peers.sweep(30)
            assert transport.closed
        with stalled(site, b"POST /predict/stream?a=b HTTP/1.1\r\ncontent-length: 20\r\n\r\n", b"{") as transport:
            await turns(PIPELINE_TURNS)
            site.peers.sweep(1e9)
            assert not transport.closed
        await turns(PIPELINE_TURNS)

    run(main)


def test_a_client_that_reads_nothing_is_cut_off() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        protocol.data_received(predict("x"))
        await site.finish()
        transport.unread = 90
        protocol.pause_writing()
        assert not protocol.idle, "or it would make room, and stay"
        for now, unread in ((1, 90), (29, 90), (30, 80), (59, 80)):
            transport.unread = unread
            site.peers.sweep(now)
            assert not transport.closed, "something was read in the last 30 s"
        site.peers.sweep(60)
        assert transport.closed

    run(main)


def test_a_client_that_reads_in_time_is_kept() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        protocol, transport = site.connect()
        protocol.data_received(predict("x"))
        await site.finish()
        for now in range(0, 1000, 20):
            loop.now = now
            transport.unread = 90
            protocol.pause_writing()
            site.peers.sweep(now)
            transport.unread = 0
            protocol.resume_writing()
        assert not transport.closed
        assert protocol.idle

    run(main)


def test_where_too_much_waits_to_be_read_the_largest_answers_are_given_up() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        pairs = [site.connect() for _ in range(4)]
        for (protocol, transport), unread in zip(pairs, (30, 60, 5, 40), strict=True):
            transport.unread = unread
            protocol.pause_writing()
            await turns()
        assert [transport.closed for _, transport in pairs] == [False, True, False, False]
        pairs[0][0].resume_writing()
        pairs[1][1].unread = 0
        assert len(site.peers.unread) == 2

    run(main)


def test_every_request_is_counted() -> None:
    async def main(loop: Clock) -> None:
        site = Site(loop)
        gone, _ = site.connect()
        gone.data_received(predict("x".ljust(60)) + predict("y"))
        gone.connection_lost(None)
        assert +site.measures.requests == {499: 2}
        site.connect()[0].data_received(b"no http at all\r\n\r\n")
        assert +site.measures.requests == {499: 2, 400: 1}
        slow, _ = site.connect()
        slow.data_received(b"POST /pre")
        site.peers.sweep(10)
        assert +site.measures.requests == {499: 2, 400: 1, 408: 1}

    run(main)
