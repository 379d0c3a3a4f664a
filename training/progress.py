"""What a person sees while a model trains: a live line in a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

SECONDS_BETWEEN_DRAWINGS = 0.1
"""Of the live line, which is shown ten times a second: words that nobody sees take 1 % of a step on short texts."""
SECONDS_BETWEEN_LINES = 30.0
"""Where output is no terminal, a long epoch says this often that it goes on."""


def make_bar(console: Console) -> Progress:
    """A name, a bar and a state in a line, which only a terminal shows."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[state]}", markup=False),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class Watch:
    """Shows epoch, loss, validation score, texts/s and the time left at most; a context manager."""

    def __init__(self, *, console: Console, phase: str, epochs: float, done: float = 0) -> None:
        self._console = console
        self._phase = phase
        self._epochs = epochs
        self._skipped = done
        self._score = ""
        self._texts = 0
        self._started = self._spoke = time.perf_counter()
        self._drawn = 0.0
        self._bar = make_bar(console)
        self._task = self._bar.add_task(phase, total=float(epochs), state="")
        self._bar.update(self._task, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def step(self, done: float, loss: float, texts: int) -> None:
        """A step was taken.

        Args:
            done: epochs, of this phase.
            loss: the mean since the last evaluation.
            texts: in the step's batch.
        """
        self._texts += texts
        if time.perf_counter() - self._drawn < SECONDS_BETWEEN_DRAWINGS:
            return
        self._drawn = time.perf_counter()
        state = f"{math.ceil(100 * (done % 1 or 1)):3d} %  loss {loss:.3f}  {self._score}{self._pace(done)}"
        self._bar.update(self._task, completed=done, description=self._name(math.ceil(done)), state=state)
        if not self._console.is_terminal and time.perf_counter() - self._spoke > SECONDS_BETWEEN_LINES:
            self._say(f"{self._name(math.ceil(done))}  {state}")

    def evaluated(self, loss: float, scores: Mapping[str, float] | None, done: float) -> None:
        """The module was evaluated; scores are those of the validation part, where there is one."""
        if scores is not None:
            self._score = f"validation accuracy {scores['accuracy']:.4f} macro F1 {scores['macro_f1']:.4f}  "
        self._say(f"{self._name(done)}  loss {loss:.3f}  {self._score}{self._pace(done)}")

    def _say(self, line: str) -> None:
        self._spoke = time.perf_counter()
        self._console.print(line)

    def _name(self, epoch: float) -> str:
        return f"{self._phase} epoch {shown(epoch)}/{shown(self._epochs)}"

    def _pace(self, done: float) -> str:
        spent = time.perf_counter() - self._started
        left = spent / max(done - self._skipped, 1e-9) * (self._epochs - done)
        return f"{self._texts / max(spent, 1e-9):,.0f} texts/s  at most {clock(left)} left"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def shown(epochs: float) -> str:
    """Whole where it is whole, as it is without evaluations inside an epoch."""
    return f"{epochs:.0f}" if epochs == round(epochs) else f"{epochs:.2f}"
