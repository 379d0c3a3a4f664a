"""The thresholds of a Decision, found on validation texts."""

import torch
from torch import Tensor

from nlp_app.decision import Decision
from training.calibration import top

CANDIDATES = torch.arange(1, 100, dtype=torch.float64) / 100
PSEUDO_TEXTS = 5.0
"""All labels together count in each label's threshold like so many texts of its own: a label may have one, or none."""
LEAST_ANSWERED = 10
"""A precision of fewer answers than these is chance."""


def decide(probabilities: Tensor, targets: Tensor, *, target_precision: float | None = None) -> Decision:
    """Find what is said at which score.

    Args:
        probabilities: (N, C), calibrated, of texts that the model was not trained on.
        targets: (N,) int64, or (N, C) of 0 and 1.
        target_precision: of what is answered; None: everything is.
    """
    thresholds = best_thresholds(probabilities, targets) if targets.ndim == 2 else ()
    min_score = 0.0 if target_precision is None else score_for(target_precision, *top(probabilities, targets))
    return Decision(thresholds=thresholds, min_score=min_score)


def best_thresholds(probabilities: Tensor, targets: Tensor) -> tuple[float, ...]:
    """Of each label, the one with the best F1, the counts of all labels together added to its own in a small part.

    Args:
        probabilities: (N, C).
        targets: (N, C) of 0 and 1.
    """
    has = targets.bool()
    given = torch.stack([(probabilities >= threshold).sum(dim=0) for threshold in CANDIDATES]).double()  # (G, C)
    hits = torch.stack([((probabilities >= threshold) & has).sum(dim=0) for threshold in CANDIDATES]).double()
    true = has.sum(dim=0).double()
    part = PSEUDO_TEXTS / true.sum().clamp_min(1)
    f1 = (
        2
        * (hits + part * hits.sum(dim=1, keepdim=True))
        / (given + true + part * (given.sum(dim=1, keepdim=True) + true.sum())).clamp_min(1e-12)
    )
    return tuple(CANDIDATES[f1.argmax(dim=0)].tolist())


def score_for(precision: float, scores: Tensor, right: Tensor) -> float:
    """The lowest score above which so large a share of the answers is right; 1 where there is none.

    Args:
        precision: from 0 to 1.
        scores: (N,) of the best label.
        right: (N,) 1 where it is a true one.
    """
    scores, order = scores.sort(descending=True)
    answered = torch.arange(1, len(scores) + 1)
    reached = (right[order].cumsum(0) / answered >= precision) & (answered >= LEAST_ANSWERED)
    last = torch.ones(len(scores), dtype=torch.bool)
    last[:-1] = scores[1:] < scores[:-1]  # texts of one score are answered together
    rows = (reached & last).nonzero()
    return scores[rows[-1]].item() if len(rows) else 1.0
