"""The thresholds of a Decision, found on validation texts."""

import numpy as np
import torch
from scipy.special import bdtr
from torch import Tensor

from nlp_app.decision import UNREACHABLE, Decision
from training.calibration import top

CANDIDATES = torch.arange(1, 100, dtype=torch.float64) / 100
MOST_FLAGGED, RISK = 0.05, 0.1
"""Of texts of the kind that was trained on, the share that is called out of scope, and how likely it may be more."""
LEAST_TEXTS = 45
"""For any threshold to keep both."""
PSEUDO_TEXTS = 2.0
"""All labels together count in each label's threshold like so many texts of its own: a label may have one, or none."""
LEAST_ANSWERED = 10
"""A precision of fewer answers than these is chance."""
STANDARD_ERRORS = 1.0
"""That a precision must lie above its target: the lowest score with it was chosen for it, so it flatters itself."""


def decide(
    probabilities: Tensor,
    targets: Tensor,
    *,
    target_precision: float | None = None,
    familiarity: Tensor | None = None,
    more: tuple[Tensor, Tensor] | None = None,
) -> Decision:
    """Find what is said at which score.

    Args:
        probabilities: (N, C), calibrated, of texts that the model was not trained on.
        targets: (N,) int64, or (N, C) of 0 and 1.
        target_precision: of what is answered; None: everything is.
        familiarity: (N,) of the same texts; None: no text is out of scope.
        more: (M, C) probabilities and targets of other texts, by which thresholds of several labels are found too.
    """
    first = (probabilities, targets)
    all_texts = first if more is None else tuple(map(torch.cat, zip(first, more, strict=True)))
    thresholds = best_thresholds(*all_texts) if targets.ndim == 2 else ()
    min_score = 0.0 if target_precision is None else score_for(target_precision, *top(probabilities, targets))
    least = 0.0 if familiarity is None else least_familiar(familiarity)
    return Decision(thresholds=thresholds, min_score=min_score, min_familiarity=least)


def least_familiar(familiarity: Tensor) -> float:
    """The familiarity below which at most MOST_FLAGGED of fresh texts lie, but for a chance of RISK.

    Of N texts, the share of all texts that is below the k-th smallest is more than p with the chance that fewer than k
    of N fall among the lowest p (Wilks 1941): a binomial sum. So 800 texts give the 32nd, 100 the second.

    Args:
        familiarity: (N,) of texts that the model was not trained on.

    Returns:
        The value, or 0, which no text is below, where there are too few texts (less than LEAST_TEXTS) for any.
    """
    texts = len(familiarity)
    place = int((bdtr(np.arange(texts), texts, MOST_FLAGGED) <= RISK).sum())
    return familiarity.sort().values[place - 1].item() if place else 0.0


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
    """The lowest score above which surely so large a share of the answers is right; UNREACHABLE where there is none.

    Surely: the lower end of Wilson's interval (1927), of STANDARD_ERRORS, reaches the precision.

    Args:
        precision: from 0 to 1.
        scores: (N,) of the best label.
        right: (N,) 1 where it is a true one.
    """
    scores, order = scores.sort(descending=True)
    answered = torch.arange(1, len(scores) + 1, dtype=torch.float64)
    ahead = right[order].double().cumsum(0) / answered - precision
    error = (precision * (1 - precision) / answered).sqrt()
    reached = (ahead >= STANDARD_ERRORS * error) & (answered >= LEAST_ANSWERED)
    last = torch.ones(len(scores), dtype=torch.bool)
    last[:-1] = scores[1:] < scores[:-1]  # texts of one score are answered together
    rows = (reached & last).nonzero()
    return scores[rows[-1]].item() if len(rows) else UNREACHABLE
