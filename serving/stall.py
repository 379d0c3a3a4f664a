"""Stall: for how long a client has read nothing of an answer that waits for it."""

import asyncio


class Stall:
    """Of one connection, whose buffer was full, or which is to be closed once it is empty."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._left = 0

    def begin(self, now: float) -> None:
        """The buffer is full: nothing more is written before much of it was read."""
        self._since, self._left = now, 0

    def end(self) -> None:
        """It is not any more."""
        self._since = None

    def lasts(self, transport: asyncio.Transport, now: float) -> float:
        """Seconds since something was read; 0 where nothing waits."""
        if self._since is None and not transport.is_closing():
            return 0.0
        left = transport.get_write_buffer_size()
        if self._since is None or left != self._left:
            self._since, self._left = now, left
        return now - self._since
