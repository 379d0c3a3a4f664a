"""Early stopping: rules over the whole history of evaluations, so that a resumed run decides as an unbroken one.

The best evaluation is the highest score so far, of equal ones the earliest; NaN is never best. Three rules say when no
better one is to be expected. `progress` looks at the last k evaluations (k is the patience) and compares the best of
them with the best before: not with the worst of the window or the neighbour, which stop while the score still rises.
`gl` and `pq` are those of L. Prechelt, "Early stopping - but when?", 1998, of the validation error E_va and the
training error E_tr, here the mean training loss since the evaluation before:

    GL(t) = 100 * (E_va(t) / min E_va - 1)                 generalisation loss, in percent
    P_k(t) = 1000 * (mean E_tr / min E_tr - 1)             training progress in the last k evaluations, a strip
    gl: stop when GL(t) > threshold;  pq: stop at the end of a strip when GL(t) / P_k(t) > threshold
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nlp_app.errors import ConfigError

MEASURES = ("loss", "accuracy", "macro-f1")
RULES = ("progress", "gl", "pq")
STANDARD_ERRORS = "se"


class Evaluation(NamedTuple):
    """What a rule reads of one evaluation."""

    score: float
    """Higher is better: an accuracy, a macro F1, or a loss with its sign turned."""
    train_loss: float = math.nan
    """Mean since the evaluation before."""
    standard_error: float = 0.0
    """Of the score."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """By how much the last k must be better: an amount, or a multiple of the score's standard error."""

    size: float = 0.0
    in_standard_errors: bool = False

    @classmethod
    def parse(cls, text: str) -> "Margin":
        """From "0.002" or "0.5se".

        Raises:
            ConfigError: it is neither.
        """
        number, relative = text.removesuffix(STANDARD_ERRORS), text.endswith(STANDARD_ERRORS)
        try:
            size = float(number)
        except ValueError:
            size = math.nan
        if not 0 <= size < math.inf:
            raise ConfigError(f"--margin is {text!r}, but must be a number of 0 or more, or one followed by se")
        return cls(size=size, in_standard_errors=relative)

    def at(self, evaluation: Evaluation) -> float:
        """In units of the score."""
        return self.size * evaluation.standard_error if self.in_standard_errors else self.size


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """When to stop; it keeps nothing, the history is its whole state."""

    patience: int
    """k, in evaluations."""
    rule: str = "progress"
    measure: str = "loss"
    margin: Margin = Margin()
    threshold: float = 0.0
    """Of gl and pq."""

    def reason(self, history: Sequence[Evaluation]) -> str:
        """Why to stop after this history, as part of a sentence; empty while training should go on."""
        if not history:
            return ""
        return {"progress": self._no_progress, "gl": self._loss, "pq": self._quotient}[self.rule](history)

    def _no_progress(self, history: Sequence[Evaluation]) -> str:
        if len(history) < self.patience:
            return ""
        before, last = history[: -self.patience], history[-self.patience :]
        if not best(before):
            return "" if best(last) else f"none of the last {self.patience} evaluations gave a score that is a number"
        best_before, best_last = before[best(before) - 1], last[max(best(last), 1) - 1]
        margin = self.margin.at(best_before)
        if best(last) and best_last.score > best_before.score + margin:
            return ""
        by = f" by more than {margin:.4f}" if margin else ""
        was = f"{self._shown(best_last)}, is not better than the best before, {self._shown(best_before)}{by}"
        return f"the best validation {self.measure} of the last {self.patience} evaluations, {was}"

    def _loss(self, history: Sequence[Evaluation]) -> str:
        loss = self._generalisation_loss(history)
        return f"{self._lost(loss)}, over the threshold of {self.threshold:g} %" if loss > self.threshold else ""

    def _quotient(self, history: Sequence[Evaluation]) -> str:
        if len(history) % self.patience:
            return ""
        loss, strip = self._generalisation_loss(history), [one.train_loss for one in history[-self.patience :]]
        # A loss of 0 cannot fall any further.
        progress = 1000 * (sum(strip) / len(strip) / min(strip) - 1) if min(strip) else 0.0
        if not loss > self.threshold * progress:  # also where either is NaN
            return ""
        return f"{self._lost(loss)}, {self.threshold:g} times the training progress of {progress:.1f} or more"

    def _generalisation_loss(self, history: Sequence[Evaluation]) -> float:
        if not best(history):
            return math.nan
        lowest, last = self._error(history[best(history) - 1]), self._error(history[-1])
        if lowest <= 0:
            return math.inf if last > lowest else 0.0
        return 100 * (last / lowest - 1)

    def _error(self, evaluation: Evaluation) -> float:
        return -evaluation.score if self.measure == "loss" else 1 - evaluation.score

    def _shown(self, evaluation: Evaluation) -> str:
        return f"{abs(evaluation.score):.4f}"

    def _lost(self, loss: float) -> str:
        return f"the validation {self.measure} is {loss:.1f} % worse in error than at its best"


def best(history: Sequence[Evaluation]) -> int:
    """The number of the best evaluation, counted from 1; 0 where there is none."""
    numbers = [number for number, one in enumerate(history, start=1) if not math.isnan(one.score)]
    return max(numbers, key=lambda number: (history[number - 1].score, -number), default=0)
