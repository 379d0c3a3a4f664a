"""How the parts of the model are added, and how honest the sum's probabilities are."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 15
PRIOR = (0.7, 2.5)
"""What the scales of the convolution and of the linear branch are on most sets; a few texts move them little."""
DEVIATION = 0.5
"""Of the scales' logarithms about those of the prior."""
MANY_TEXTS = 4300
"""That the convolution of PRIOR was trained on; from fewer it learns less than it claims (docs/decisions.md)."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How the logits of the parts become those of the sum: multiplied by scales, and an offset added."""

    scales: tuple[float, ...]
    offset: float = 0.0
    """Of every label; 0 where a text has one label, which the same number added to all would not change."""

    def __call__(self, parts: Sequence[Tensor]) -> Tensor:
        """Each (N, C) -> (N, C)."""
        scaled = (scale * part for scale, part in zip(self.scales, parts, strict=True))
        return torch.stack(list(scaled)).sum(dim=0) + self.offset


def prior(texts: int) -> tuple[float, ...]:
    """PRIOR, the convolution's scale less by the root of what is missing to MANY_TEXTS training texts."""
    return PRIOR[0] * min(1.0, texts / MANY_TEXTS) ** 0.5, *PRIOR[1:]


def calibrate(parts: Sequence[Tensor], targets: Tensor, *, texts: int = MANY_TEXTS) -> Calibration:
    """The scales by which the sum's probabilities are likeliest on held-out texts.

    With one part it is temperature scaling, 1 / T (Guo et al., "On Calibration of Modern Neural Networks", 2017); with
    several labels a text Platt's scaling with a slope for each part. The likelihood has a prior: log-normal about PRIOR
    with a deviation of DEVIATION, which weighs as much as a few texts.

    Args:
        parts: each (N, C), of texts that no part was trained on.
        targets: (N,) int64, or (N, C) of 0 and 1.
        texts: that the convolution was trained on.
    """
    logits = torch.stack([part.double() for part in parts])
    middle = torch.tensor(prior(texts)[: len(parts)], dtype=torch.float64).log()
    scales, offset = middle.clone().requires_grad_(), torch.zeros((), dtype=torch.float64, requires_grad=True)
    several = targets.ndim == 2
    optimizer = torch.optim.LBFGS(
        [scales, offset] if several else [scales], max_iter=100, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        summed = torch.einsum("p,pnc->nc", scales.exp(), logits) + offset
        if several:
            loss = F.binary_cross_entropy_with_logits(summed, targets.double(), reduction="sum") + offset**2 / 2
        else:
            loss = F.cross_entropy(summed, targets, reduction="sum")
        loss = loss + (((scales - middle) / DEVIATION) ** 2).sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return Calibration(scales=tuple(scales.detach().exp().tolist()), offset=offset.item() if several else 0.0)


def calibration_error(probabilities: Tensor, targets: Tensor) -> float:
    """The expected calibration error: |accuracy - mean score| over BINS equal bins of the top score, weighted by texts.

    Source: Naeini et al. 2015; Guo et al. 2017, equation 3.

    Args:
        probabilities: (N, C).
        targets: (N,) int64, -1 where the label is none of the C; or (N, C) of 0 and 1.
    """
    return error_of(*top(probabilities, targets))


def error_of(scores: Tensor, right: Tensor) -> float:
    """calibration_error of the score of each text's best label, and whether the text has it: (N,) each."""
    count, score, share = bins(scores, right)
    return ((share - score).abs() * count).sum().item() / max(1, len(scores))


def bins(scores: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(BINS,) float64 each: the texts in each bin, their mean score, and the share of them that is right."""
    scores = scores.double()
    place = (scores * BINS).long().clamp(max=BINS - 1)
    count, score, share = (
        torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, values.double())
        for values in (torch.ones_like(scores), scores, right)
    )
    return count, score / count.clamp_min(1), share / count.clamp_min(1)


def top(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The score of each text's best label, and 1 where the text has it: (N,) float64 each."""
    scores, predicted = probabilities.double().max(dim=1)
    right = predicted == targets if targets.ndim == 1 else targets.gather(1, predicted.unsqueeze(1)).squeeze(1)
    return scores, right.double()


def brier_score(probabilities: Tensor, targets: Tensor) -> float:
    """The mean over texts of the summed squared difference to the truth, from 0 to 2 (Brier 1950).

    Args:
        probabilities: (N, C).
        targets: (N,) int64, -1 where the label is none of the C; or (N, C) of 0 and 1.
    """
    if not len(targets):
        return 0.0
    if targets.ndim == 2:
        return ((probabilities.double() - targets) ** 2).sum(dim=1).mean().item()
    truth = F.one_hot(targets.clamp(min=0), probabilities.shape[1]) * (targets >= 0).unsqueeze(1)
    return ((probabilities.double() - truth) ** 2).sum(dim=1).mean().item()
