"""Ctrl-C and SIGTERM as a request to stop at the next step; a second one ends the process at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """The user asked to stop; what was saved before stays."""


class StopRequest:
    """Whether the user asked to stop."""

    def __init__(self) -> None:
        self.made = False

    def check(self) -> None:
        """Raise Interrupted where the user asked to stop."""
        if self.made:
            raise Interrupted


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the first signal, in the main thread."""
    request = StopRequest()

    def handle(number: int, _: FrameType | None) -> None:
        request.made = True
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
