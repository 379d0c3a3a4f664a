"""Protocol: uvicorn's HTTP/1.1, with the requests to /predict answered in it, and connections that stall closed."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.connections import Connections
from serving.direct import Direct
from serving.endpoint import Predict
from serving.limits import STREAM as STREAM_PATH
from serving.measures import Measures

STREAM = STREAM_PATH.encode()
TIMED_OUT = b'{"detail":"the request was not sent in time: send it as a whole at once"}'
TIMED_OUT_HEAD = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
)


class Protocol(HttpToolsProtocol):
    """A connection."""

    def __init__(
        self, *args: Any, posts: Mapping[bytes, Predict], peers: Connections, measures: Measures, **rest: Any
    ) -> None:
        super().__init__(*args, **rest)
        self._posts = posts
        self._peers = peers
        self._measures = measures
        self.due: float | None = None
        """When the request that is being read must be whole."""
        self._begun = False
        """Whether a request has begun that is not whole."""
        self._reads_headers = False
        self._earlier: deque[Any] = deque()
        """Requests before the last one that may not be answered yet."""

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come that is not answered."""
        return not self._begun and (self.cycle is None or self.cycle.response_complete)

    def connection_made(self, transport: Any) -> None:
        """Count it; one too many is closed."""
        super().connection_made(transport)
        self.due = self.loop.time() + self._peers.header_s
        self._peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is computed for it."""
        self._peers.discard(self)
        super().connection_lost(exc)
        for cycle in (*self._earlier, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True  # uvicorn tells the last one alone, and others would write to what is closed
                cycle.message_event.set()
            if isinstance(cycle, Direct):
                cycle.abandon()

    def time_out(self) -> None:
        """Close it, since its request is not whole in time; what is said of that never stands before another answer."""
        before = self.cycle is None or self.cycle.response_complete
        if before if self._reads_headers else isinstance(self.cycle, Direct) and not before:
            self.transport.write(TIMED_OUT_HEAD % len(TIMED_OUT) + TIMED_OUT)
        self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._peers.spoke(self)
        self._begun = self._reads_headers = True
        self.due = self.loop.time() + self._peers.header_s

    def on_headers_complete(self) -> None:
        """Answer it here, where it is the next one of its connection and its client reads what it is sent."""
        self._reads_headers = False
        self.due = None if self.url.endswith(STREAM) else self.loop.time() + self._peers.body_s
        endpoint = self._posts.get(self.url)
        waits = self.cycle is not None and not self.cycle.response_complete
        if waits:
            self._wait_behind(self.cycle)
        if endpoint is None or waits or self.flow.write_paused or self.parser.get_method() != b"POST":
            return super().on_headers_complete()
        if self.parser.should_upgrade():
            return super().on_headers_complete()
        direct = Direct(
            endpoint=endpoint,
            transport=self.transport,
            loop=self.loop,
            path=self.url.decode("latin-1"),
            headers=self.headers,
            keep_alive=self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive(),
            default_headers=self._default_headers(),
            on_response=self.on_response_complete,
            measures=self._measures,
        )
        self.cycle = direct  # type: ignore[assignment]
        return direct.begin(self.expect_100_continue)

    def _wait_behind(self, cycle: Any) -> None:
        while self._earlier and self._earlier[0].response_complete:
            self._earlier.popleft()
        self._earlier.append(cycle)

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        if isinstance(self.cycle, Direct):
            if not self.cycle.response_complete:
                self.cycle.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self.due, self._begun = None, False
        if isinstance(self.cycle, Direct):
            if not self.cycle.response_complete:
                self.cycle.end()
        else:
            super().on_message_complete()

    def _default_headers(self) -> bytes:
        """Those of every response, which uvicorn makes anew each second."""
        return self._peers.joined(self.server_state.default_headers)
