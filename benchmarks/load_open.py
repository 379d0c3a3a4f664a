"""An open loop: requests by a schedule, whatever the answers."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol


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
