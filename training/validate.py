"""How a module does on validation texts."""

import math

import torch.nn.functional as F
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.decision import Decision
from nlp_app.model import TextClassifier
from nlp_app.scoring import score, to_probabilities
from training.batches import Dataset
from training.calibration import brier_score, calibration_error
from training.metrics import Confusion, LabelSets, Tally
from training.standard_error import standard_error

SCORES = ("loss", "accuracy", "macro_f1", "micro_f1", "calibration_error", "brier_score", "standard_error")


def validate(
    module: TextClassifier, data: Dataset, measure: str = "loss", decision: Decision | None = None
) -> dict[str, float]:
    """The SCORES of a module, the standard error being that of one of them; NaN where the loss is no number."""
    return scores_of(score(module, data.encoded), data.targets, module.config, measure, decision)


def scores_of(
    logits: Tensor, targets: Tensor, config: ModelConfig, measure: str = "loss", decision: Decision | None = None
) -> dict[str, float]:
    """The same of logits (N, C)."""
    losses = plain_losses(logits, targets)
    loss = losses.mean().item()
    if not math.isfinite(loss):
        return dict.fromkeys(SCORES, math.nan)
    probabilities = to_probabilities(logits, multi_label=config.multi_label)
    tally = tally_of(config, probabilities, targets, decision or Decision())
    return {
        "loss": loss,
        "accuracy": tally.accuracy,
        "macro_f1": tally.macro_f1,
        "micro_f1": tally.micro_f1,
        "calibration_error": calibration_error(probabilities, targets),
        "brier_score": brier_score(probabilities, targets),
        "standard_error": standard_error(measure, losses.numpy(), tally),
    }


def plain_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) the negative log-likelihood of each text's label, or of all its labels together."""
    if targets.ndim == 2:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)
    return F.cross_entropy(logits, targets, reduction="none")


def tally_of(config: ModelConfig, probabilities: Tensor, targets: Tensor, decision: Decision) -> Tally:
    """What was true and what would be answered."""
    if config.multi_label:
        given = decision.given(probabilities.numpy())
        return LabelSets.of_rows(config.labels, targets.bool().numpy(), given)
    return Confusion.of_indices(config.labels, targets.numpy(), probabilities.argmax(dim=1).numpy())
