"""The time that the user gives: how much of it is left, and what the end of a run will take of it."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from training.state import RunState

SAVING_S = 1.0
"""Of the golden inputs, six files and their way to the disk: 0.3 s with 8 MB of n-grams, on a busy machine."""
SCORINGS = 6
"""Evaluations' worth between the last step and the saving: that evaluation, both calibrations, the last screen."""
WARY = 1.2
"""What is foreseen takes longer at times: memory that is full, neighbours on the machine."""


class Budget:
    """Seconds for a whole run; without a limit they are endless."""

    def __init__(
        self, *, seconds: float | None = None, spent: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """A budget that runs from now.

        Args:
            seconds: the limit; None for none.
            spent: seconds of them that are gone.
            clock: seconds since any moment.
        """
        self.seconds = math.inf if seconds is None else seconds
        self.now = clock
        self.took: dict[str, float] = {}
        """Seconds of each kind of work the last time that it was done."""
        self._end = clock() - spent + self.seconds

    @classmethod
    def of_process(cls, seconds: float | None) -> "Budget":
        """From the start of the process, so that Python's own start counts."""
        return cls(seconds=seconds, spent=process_age())

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self.seconds < math.inf

    def left(self) -> float:
        """Seconds; below 0 once they are over."""
        return self._end - self.now() if self.limited else math.inf

    def without(self, seconds: float) -> "Budget":
        """The same clock and end, less what is kept for later."""
        rest = Budget(seconds=self.left() - seconds if self.limited else None, clock=self.now)
        rest.seconds, rest.took = self.seconds, dict(self.took)
        return rest

    @contextmanager
    def timed(self, work: str) -> Iterator[None]:
        """Note how long some work takes."""
        begun = self.now()
        yield
        self.took[work] = self.now() - begun


class Deadline:
    """When the selection has to end so that what comes after it still fits."""

    def __init__(self, budget: Budget, *, train: int, validation: int, wants_refit: bool) -> None:
        """A deadline for one selection.

        Args:
            budget: of the run.
            train: texts.
            validation: texts.
            wants_refit: whether all rows shall be trained on afterwards, if there is time.
        """
        self._budget = budget
        self._train, self._validation = train, validation
        self._wants_refit = wants_refit
        self._refit = 0.0

    def is_up(self, texts_per_s: float) -> bool:
        """Whether to evaluate now, for the last time."""
        return self._budget.limited and self._budget.left() < self._closing(texts_per_s) + self._refit

    def evaluated(self, state: RunState) -> None:
        """Keep time for a refit once an evaluation was no better; while scores rise more steps are worth more."""
        if not self._wants_refit or state.best == len(state.scores):
            self._refit = 0.0
        elif not self._refit:  # what was kept before stays kept
            cost = self.refit_seconds(state)
            self._refit = cost if self._budget.left() >= self._closing(math.inf) + cost else 0.0

    def leaves_a_refit(self, state: RunState) -> bool:
        """Whether a refit fits into what is left after the selection, which may have taken what was kept to be wary."""
        return self._budget.left() >= SAVING_S + self.refit_seconds(state) / WARY

    def refit_seconds(self, state: RunState) -> float:
        """What training on all rows would take: the share of the selection up to its best step, and the branch."""
        steps = state.seconds * state.best_scores["step"] / max(1, state.scores[-1]["step"])
        more = (self._train + self._validation) / self._train
        return WARY * more * (steps + self._budget.took.get("ngrams", 0.0))

    def _closing(self, texts_per_s: float) -> float:
        """From the last step to the end, without a refit; a text is scored in half the time of training on it."""
        evaluation = self._budget.took.get("evaluation", self._validation / (2 * texts_per_s))
        return SAVING_S + WARY * SCORINGS * evaluation


def process_age() -> float:
    """Seconds since this process was started; 0 where the system does not tell, which is any but Linux."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        return 0.0
