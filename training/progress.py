"""What a person sees while a model trains: a live line in a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

SECONDS_BETWEEN_LINES = 30.0
"""Where output is no terminal, a long epoch says this often that it goes on."""


class Watch:
    """Shows epoch, step, loss, validation score, texts/s and the time left at most; a context manager."""

    def __init__(self, *, console: Console, phase: str, epochs: int, done: int = 0) -> None:
        self._console = console
        self._phase = phase
        self._epochs = epochs
        self._done = self._skipped = done
        self._score = ""
        self._texts = 0
        self._started = self._spoke = time.perf_counter()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[state]}", markup=False),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(phase, total=float(epochs), completed=done, state="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def step(self, step: int, steps: int, loss: float, texts: int) -> None:
        """A step was taken.

        Args:
            step: its number in the epoch, from 1.
            steps: in the epoch.
            loss: the mean of the epoch so far.
            texts: in the step's batch.
        """
        self._texts += texts
        done = self._done + step / steps
        state = f"step {step}/{steps}  loss {loss:.3f}  {self._score}{self._pace(done)}"
        self._bar.update(self._task, completed=done, description=self._name(self._done + 1), state=state)
        if not self._console.is_terminal and time.perf_counter() - self._spoke > SECONDS_BETWEEN_LINES:
            self._say(f"{self._name(self._done + 1)}  {state}")

    def epoch(self, loss: float, scores: dict[str, float] | None) -> None:
        """An epoch is done; scores are those of the validation part, where there is one."""
        self._done += 1
        if scores is not None:
            self._score = f"validation accuracy {scores['accuracy']:.4f} macro F1 {scores['macro_f1']:.4f}  "
        self._say(f"{self._name(self._done)}  loss {loss:.3f}  {self._score}{self._pace(self._done)}")

    def _say(self, line: str) -> None:
        self._spoke = time.perf_counter()
        self._console.print(line)

    def _name(self, epoch: int) -> str:
        return f"{self._phase} epoch {epoch}/{self._epochs}"

    def _pace(self, done: float) -> str:
        spent = time.perf_counter() - self._started
        left = spent / max(done - self._skipped, 1e-9) * (self._epochs - done)
        return f"{self._texts / max(spent, 1e-9):,.0f} texts/s  at most {_clock(left)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
