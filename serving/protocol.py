"""Protocol: uvicorn's HTTP/1.1, with the requests to /predict answered in it, and connections that stall closed."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.connections import Connections
from serving.direct import CLOSE, END, KIND, Direct
from serving.endpoint import Predict
from serving.limits import STREAM as STREAM_PATH
from serving.measures import CLOSED, Measures
from serving.problems import Refused
from serving.settings import Settings
from serving.stall import Stall

STREAM = STREAM_PATH.encode()


class Protocol(HttpToolsProtocol):
    """A connection."""

    def __init__(
        self,
        *args: Any,
        posts: Mapping[bytes, Predict],
        peers: Connections,
        measures: Measures,
        limits: Settings,
        **rest: Any,
    ) -> None:
        super().__init__(*args, **rest)
        self._posts = posts
        self._peers = peers
        self._measures = measures
        self._limits = limits
        self.due: float | None = None
        """When the request that is being read must be whole."""
        self._begun = False
        """Whether a request has begun that is not whole."""
        self._reads_headers = False
        self._heads = 0
        """Requests that have begun."""
        self._head_bytes = 0
        """Read of headers, in the pieces after the one that they begin in."""
        self._over = False
        """Whether nothing that comes is read any more."""
        self._stall = Stall()
        self._earlier: deque[Any] = deque()
        """Requests before the last one that may not be answered yet."""

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come that is not answered, and every answer was read."""
        answered = self.cycle is None or self.cycle.response_complete
        return not self._begun and answered and not self.transport.get_write_buffer_size()

    def stalls(self, now: float, patience_s: float) -> bool:
        """Whether an answer waits for so long that nothing of is read."""
        return self._stall.lasts(self.transport, now) >= patience_s

    def connection_made(self, transport: Any) -> None:
        """Count it; one too many is closed."""
        super().connection_made(transport)
        self.due = self.loop.time() + self._peers.header_s
        self._peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is computed for it."""
        self._peers.discard(self)
        super().connection_lost(exc)
        for cycle in self._waiting():
            self._measures.answered(CLOSED, 0.0)
            self._forget(cycle)

    def _waiting(self) -> list[Any]:
        """Requests without an answer, or without the end of it."""
        return [one for one in (*self._earlier, self.cycle) if one is not None and not one.response_complete]

    def _forget(self, cycle: Any) -> None:
        cycle.disconnected = True  # uvicorn tells the last one alone, and others would write to what is closed
        cycle.message_event.set()
        if isinstance(cycle, Direct):
            cycle.abandon()

    def data_received(self, data: bytes) -> None:
        """Read it, unless the connection is to end; a head that is too long ends it."""
        if self._over:
            return
        heads = self._heads
        super().data_received(data)
        if self._reads_headers and heads == self._heads:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.max_header_bytes:
                self.turn_away(long_head(self._limits))

    def send_400_response(self, msg: str) -> None:
        """What uvicorn says of what is no HTTP."""
        if not self._over:
            self.turn_away(Refused(400, msg))

    def time_out(self) -> None:
        """Close it, since its request is not whole in time."""
        if self._begun:
            self.turn_away(Refused(408, "the request was not sent in time: send it as a whole at once"))
        else:
            self.transport.close()  # it has never said anything

    def turn_away(self, refused: Refused) -> None:
        """Say why the request that is being read is not answered, never before another answer; then end."""
        self._over, self.due = True, None
        self._measures.answered(refused.status, 0.0)
        waiting, in_body = self._waiting(), self._begun and not self._reads_headers
        if waiting and not in_body:
            waiting[-1].keep_alive = False  # they are answered before the connection ends
            self.transport.pause_reading()
            return
        first = len(waiting) == 1 and not getattr(waiting[0], "response_started", False)
        if first or not in_body:
            self.transport.write(told(refused))
        for cycle in waiting:
            self._forget(cycle)
        self.transport.close()

    def pause_writing(self) -> None:
        """An answer waits to be read."""
        super().pause_writing()
        self._stall.begin(self.loop.time())
        self.loop.call_soon(self._peers.reads_slowly, self)

    def resume_writing(self) -> None:
        """Most of it was read."""
        super().resume_writing()
        self._peers.unread.discard(self)
        self._stall.end()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self._over:
            return
        self._peers.spoke(self)
        self._begun = self._reads_headers = True
        self._heads, self._head_bytes = self._heads + 1, 0
        self.due = self.loop.time() + self._peers.header_s

    def on_headers_complete(self) -> None:
        """Answer it here, where it is the next one of its connection and its client reads what it is sent."""
        if self._over:
            return None
        if (refused := self._refusal()) is not None:
            return self.turn_away(refused)
        self._reads_headers = False
        self.due = None if self.url.partition(b"?")[0].endswith(STREAM) else self.loop.time() + self._peers.body_s
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

    def _refusal(self) -> Refused | None:
        """Why the request is not read on, where it is not."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._limits.max_header_bytes or len(self.headers) > self._limits.max_headers:
            return long_head(self._limits)
        return None

    def _wait_behind(self, cycle: Any) -> None:
        while self._earlier and self._earlier[0].response_complete:
            self._earlier.popleft()
        self._earlier.append(cycle)

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        if self._over:
            return
        if isinstance(self.cycle, Direct):
            if not self.cycle.response_complete:
                self.cycle.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._over:
            return
        self.due, self._begun = None, False
        if isinstance(self.cycle, Direct):
            if not self.cycle.response_complete:
                self.cycle.end()
        else:
            super().on_message_complete()

    def _default_headers(self) -> bytes:
        """Those of every response, which uvicorn makes anew each second."""
        return self._peers.joined(self.server_state.default_headers)


def long_head(limits: Settings) -> Refused:
    """A request whose address and headers are too long, or too many."""
    most = f"{limits.max_headers} headers and {limits.max_header_bytes:,} bytes"
    return Refused(431, f"the head of the request is larger than {most}: send fewer or shorter headers")


def told(refused: Refused) -> bytes:
    """The last response of a connection."""
    body = to_json({"detail": refused.detail})
    return b"".join((STATUS_LINE[refused.status], KIND, str(len(body)).encode(), END, CLOSE, body))
