"""The losses: cross-entropy of logits, or log-softmax and negative log-likelihood; one function of the same weights.

Where a text may have several labels, cross-entropy is that of each label by itself, the binary one, summed.

A loss is a sum over texts and a divisor, so that a batch can be split: the sums of the parts over the divisor of the
whole batch is the whole batch's loss, also with class weights and parts of unequal size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nlp_app.errors import ConfigError

OUTPUT_OF = {"cross-entropy": "logits", "nll": "log_probabilities"}
"""What the module's forward must end in for each loss."""
LOSSES = tuple(OUTPUT_OF)
AUTO, BALANCED, NONE = "auto", "balanced", "none"
SKEWED = 1.5
"""Below this ratio of the largest class to the smallest, classes count as equal."""
LARGEST_RATIO = 4.0
"""Of two weights of `auto`: with more, a rare class is found in everything."""
SMALLEST = 1e-12
"""A certain answer has 1 - p = 0, where the slope of a power below 1 is infinite."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss of what a module's forward gives.

    Raises:
        ConfigError: an option that the loss does not have.
    """

    name: str = "cross-entropy"
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    class_weights: Tensor | None = None
    """(C,) float32."""
    multi_label: bool = False

    def __post_init__(self) -> None:
        if self.label_smoothing and self.name == "nll":
            raise ConfigError("--label-smoothing needs --loss cross-entropy: torch's nll_loss has none")
        if self.label_smoothing and self.focal_gamma:
            raise ConfigError("--label-smoothing and --focal-gamma exclude each other: leave one of them out")
        if self.multi_label and (self.name == "nll" or self.focal_gamma):
            flag = "--focal-gamma" if self.focal_gamma else "--loss nll"
            raise ConfigError(f"{flag} is for one label a text, but these texts have lists of labels: leave it out")

    def __call__(self, output: Tensor, targets: Tensor) -> Tensor:
        """The mean over a batch, weighted by class where there are class weights: a scalar."""
        return self.total(output, targets) / self.divisor(targets)

    def total(self, output: Tensor, targets: Tensor) -> Tensor:
        """The weighted sum over texts.

        Args:
            output: (B, C) logits for cross-entropy, log-probabilities for nll.
            targets: (B,) int64, places in the model's labels; for several labels a text (B, C) of 0 and 1; for
                cross-entropy also (B, C) probabilities.
        """
        if self.multi_label:
            return self._binary(output, targets)
        if self.focal_gamma:
            return self._focal(output, targets)
        weight = self._weights(output)
        if self.name == "nll":
            return F.nll_loss(output, targets, weight=weight, reduction="sum")
        return F.cross_entropy(output, targets, weight=weight, label_smoothing=self.label_smoothing, reduction="sum")

    def divisor(self, targets: Tensor) -> Tensor:
        """The weights' sum, or the number of texts: a scalar."""
        if self.class_weights is None or self.multi_label:
            return torch.tensor(float(len(targets)))
        weights = self.class_weights.to(targets.device)
        return (targets @ weights if targets.ndim == 2 else weights[targets]).sum()

    def _binary(self, output: Tensor, targets: Tensor) -> Tensor:
        """Class weights multiply what a label says where it is there, as in torch's pos_weight."""
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(output, smooth, pos_weight=self._weights(output), reduction="sum")

    def _focal(self, output: Tensor, targets: Tensor) -> Tensor:
        """(1 - p)^gamma * -log(p): Lin et al., "Focal loss for dense object detection", 2017, equation 5."""
        of = F.nll_loss if self.name == "nll" else F.cross_entropy
        lost = of(output, targets, reduction="none")
        missed = -torch.expm1(-lost)  # 1 - p
        focused = missed.clamp_min(SMALLEST) ** self.focal_gamma * lost
        weight = self._weights(output)
        return (focused if weight is None else focused * weight[targets]).sum()

    def _weights(self, output: Tensor) -> Tensor | None:
        return None if self.class_weights is None else self.class_weights.to(output)


def class_weights(given: Sequence[str], labels: Sequence[str], targets: Tensor) -> Tensor | None:
    """The weight of each class, by its number of texts.

    Args:
        given: as of weights_by_counts.
        labels: C classes.
        targets: (N,) of the training texts, or (N, C) where they may have several labels; each class occurs.
    """
    several = targets.ndim == 2
    counts = targets.sum(dim=0) if several else torch.bincount(targets, minlength=len(labels)).float()
    return weights_by_counts(given, labels, counts, texts=len(targets), several=several)


def weights_by_counts(
    given: Sequence[str], labels: Sequence[str], counts: Tensor, *, texts: int, several: bool
) -> Tensor | None:
    """The weight of each class.

    Args:
        given: "none" or nothing; "balanced" (N / (C * texts of the class), as in scikit-learn); "auto", the same where
            classes are SKEWED, none more than LARGEST_RATIO times another; C numbers in the order of labels; or C times
            LABEL=NUMBER.
        labels: C classes.
        counts: (C,) float32, the texts with each, at least one.
        texts: N.
        several: whether a text may have several labels.

    Returns:
        (C,) float32, or None where nothing is given.

    Raises:
        ConfigError: a weight is no positive number, or there is not one for each class.
    """
    if not given or list(given) == [NONE]:
        return None
    words = [word for word in given if word in (AUTO, BALANCED, NONE)]
    if words and len(given) > 1:
        raise ConfigError(f"--class-weights got {' '.join(given)!r}, but {words[0]} stands alone: leave the rest out")
    if list(given) == [AUTO]:
        return None if several else _auto(counts, texts)  # each of several labels has a threshold of its own
    if list(given) == [BALANCED]:
        if several:
            return ((texts - counts) / counts).clamp_min(1e-3)  # or 0 where every text has it
        return texts / (len(labels) * counts)
    if len(given) == len(labels) and all(_is_number(text) for text in given):
        return torch.tensor([_weight(text, text) for text in given])
    return torch.tensor(_by_label(given, labels))


def _auto(counts: Tensor, texts: int) -> Tensor | None:
    if counts.max() < SKEWED * counts.min():
        return None
    weights = texts / (len(counts) * counts)
    return weights.clamp(max=LARGEST_RATIO * weights.min().item())


def _by_label(given: Sequence[str], labels: Sequence[str]) -> list[float]:
    pairs = [text.rpartition("=") for text in given]
    if bare := [text for text, (_, sign, _) in zip(given, pairs, strict=True) if not sign]:
        are_numbers = all(map(_is_number, bare))
        for text in bare if are_numbers else ():
            _weight(text, text)  # one that is no weight at all is worse than too few
        kinds = f"balanced, {len(labels)} numbers in the order {', '.join(labels[:5])}{' …' * (len(labels) > 5)}"
        got = len(bare) if are_numbers else repr(bare[0])
        raise ConfigError(f"--class-weights got {got}, but takes {kinds}, or LABEL=NUMBER for each label")
    weights = {label: _weight(value, text) for text, (label, _, value) in zip(given, pairs, strict=True)}
    if len(weights) < len(pairs):
        names = [label for label, _, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"--class-weights names {twice!r} more than once: give each label one weight")
    if unknown := sorted(weights.keys() - set(labels)):
        raise ConfigError(f"--class-weights names {unknown[0]!r}, which is no label of the training texts")
    if missing := [label for label in labels if label not in weights]:
        raise ConfigError(f"--class-weights lacks {missing[0]!r}: every one of the {len(labels)} labels needs a weight")
    return [weights[label] for label in labels]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _weight(value: str, text: str) -> float:
    # As float32 has it: 1e-46 is 0 there, and 1e39 infinite.
    weight = torch.tensor(float(value) if _is_number(value) else math.nan, dtype=torch.float32).item()
    if not 0 < weight < math.inf:
        raise ConfigError(f"--class-weights has {text!r}, but a weight must be a number above 0")
    return weight
