"""Early stopping that looks at the progress of the last k evaluations."""

import math
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class EarlyStopping:
    """Stop when the best of the last `patience` scores is no better than the best before them.

    The best score is the highest so far, of equal ones the earliest; NaN is never best. It is compared with the best
    before, not with the worst of the window or the neighbour, which stop while the score still rises.
    """

    patience: int
    scores: list[float] = field(default_factory=list)
    """One an evaluation, higher is better; the whole state, so that a resumed run decides as an unbroken one."""

    def add(self, score: float) -> bool:
        """Take the next score; True where it is the best so far."""
        self.scores.append(score)
        return self.best == len(self.scores)

    @property
    def best(self) -> int:
        """The number of the best evaluation, counted from 1; 0 where there is none."""
        numbers = [number for number, score in enumerate(self.scores, start=1) if not math.isnan(score)]
        return max(numbers, key=lambda number: (self.scores[number - 1], -number), default=0)

    @property
    def should_stop(self) -> bool:
        """Whether the last `patience` evaluations brought no progress."""
        return len(self.scores) - self.best >= self.patience
