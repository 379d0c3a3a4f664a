"""Signals at the ends of a server's life: while it is still being imported, and once it has said goodbye."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from nlp_app.errors import run_command

TO_END = (signal.SIGTERM, signal.SIGINT)
TO_RELOAD = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
"""Windows has none, and no masks."""
NUMBERS = (*TO_END, *TO_RELOAD)


def mind_signals() -> None:
    """Until the server does so itself: SIGTERM and Ctrl-C end it with 0, and SIGHUP finds nothing to load again."""
    for numbers, react in ((TO_END, _end), (TO_RELOAD, _stay)):
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as the caller wants it
                signal.signal(number, react)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)  # a worker is started with them held back


@contextmanager
def held_back() -> Iterator[None]:
    """A process that is started meanwhile gets them when it minds them; without that they would kill it before."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_server(main: Callable[[], int]) -> NoReturn:
    """As of run_command; a signal that comes once main has returned changes nothing of how the server ends."""
    try:
        run_command(main)
    finally:
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)  # Python takes back its handlers while it ends, but leaves this


def _end(*_: object) -> NoReturn:
    os._exit(0)  # nothing was accepted yet; an exception would go through whatever import it met


def _stay(*_: object) -> None:
    """Go on."""
