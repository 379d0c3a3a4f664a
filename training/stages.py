"""What a person sees of the work before training: how far a stage is, its pace and the time left."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console

from training.progress import SECONDS_BETWEEN_DRAWINGS, SECONDS_BETWEEN_LINES, clock, make_bar


class Stage:
    """Shows a stage of the cache, as Watch shows training; a context manager."""

    def __init__(self, *, console: Console, name: str, done: float = 0.0) -> None:
        self._console = console
        self._name = name
        self._texts = 0
        self._first = done  # an earlier sitting's work is no pace
        self._started = self._spoke = time.perf_counter()
        self._drawn = 0.0
        self._bar = make_bar(console)
        self._task = self._bar.add_task(name, total=1.0, state="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def advance(self, texts: int, done: float) -> None:
        """Some texts more are done.

        Args:
            texts: in this sitting's last piece of work.
            done: share of the whole stage, about.
        """
        now = time.perf_counter()
        self._texts += texts
        if now - self._drawn < SECONDS_BETWEEN_DRAWINGS:
            return
        self._drawn = now
        spent = now - self._started
        left = spent / max(done - self._first, 1e-9) * max(0.0, 1 - done)
        pace = f"{self._texts / max(spent, 1e-9):,.0f} texts/s"
        state = f"{min(99, int(100 * done)):3d} %  {pace}" + (f"  {clock(left)} left" if done > self._first else "")
        self._bar.update(self._task, completed=min(done, 1.0), state=state)
        if not self._console.is_terminal and now - self._spoke > SECONDS_BETWEEN_LINES:
            self._spoke = now
            self._console.print(f"{self._name}  {state}")

    def done(self, words: str) -> None:
        """Say what came of it."""
        spent = time.perf_counter() - self._started
        self._console.print(f"{words} in {clock(spent)}, {self._texts / max(spent, 1e-9):,.0f} texts/s")
