"""The whole model: the convolution and the linear branch over n-grams, added by scales found on held-out texts.

Each part is fitted alone. Trained together, the branch would fit the training texts at once and leave the convolution
nothing to learn; added afterwards, each is right where the other is not (docs/decisions.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.decision import Decision
from nlp_app.model import NgramBranch, TextClassifier
from nlp_app.quantize import FLOAT32, INT8, round_weights
from nlp_app.scoring import familiarity, score, to_probabilities
from training.batches import Dataset
from training.calibration import MANY_TEXTS, Calibration, calibrate
from training.decide import decide
from training.linear import Labelled, branch_logits
from training.validate import scores_of, tally_of

PARTS = ("convolution alone", "n-grams alone")


@dataclass(frozen=True, kw_only=True)
class Selected:
    """The model of the selection: it has not seen the validation texts, by which the rest here was found."""

    module: TextClassifier
    calibration: Calibration
    decision: Decision
    scores: dict[str, float]
    alone: dict[str, dict[str, float]]
    """The scores of each part by itself, and of the most frequent label, beside which the whole is to be seen."""


def settle(
    module: TextClassifier,
    branch: NgramBranch | None,
    validation: Dataset,
    *,
    target_precision: float | None,
    apart: Labelled | None = None,
    texts: int = MANY_TEXTS,
    weights: str = FLOAT32,
) -> Selected:
    """Add the parts, and find what is said at which score.

    Args:
        module: the convolution alone, in eval mode.
        branch: fitted to the same training texts; None where texts are read without n-grams.
        validation: texts that neither was fitted to.
        apart: training texts, as branches see them that were not fitted to them; for the thresholds of several labels.
        target_precision: of what is answered, where the model shall abstain from the rest.
        texts: that both were fitted to.
        weights: as they will be stored.
    """
    parts = [score(module, validation.encoded)]
    if branch is not None:
        parts.append(branch_logits(branch, validation))
    calibration = calibrate(parts, validation.targets, texts=texts)
    whole = combine(module, branch, calibration, weights=weights)
    logits = score(whole, validation.encoded)
    more = None if apart is None else (torch.sigmoid(calibrated(apart)), apart.targets)
    decision = decide(
        to_probabilities(logits, multi_label=module.config.multi_label),
        validation.targets,
        target_precision=target_precision,
        familiarity=None if branch is None else familiarity(whole, validation.encoded),
        more=more,
    )
    return Selected(
        module=whole,
        calibration=calibration,
        decision=decision,
        scores=scores_of(logits, validation.targets, whole.config, decision=decision),
        alone=_alone(module.config, parts, validation.targets, more),
    )


def calibrated(seen: Labelled) -> Tensor:
    """The logits, scaled so that their probabilities are likeliest."""
    return calibrate([seen.logits], seen.targets)([seen.logits])


def _alone(
    config: ModelConfig, parts: Sequence[Tensor], targets: Tensor, more: tuple[Tensor, Tensor] | None
) -> dict[str, dict[str, float]]:
    """The parts' scores, each calibrated by itself, with thresholds of its own; (N, C) each."""
    probabilities = {
        name: to_probabilities(calibrated(Labelled(part, targets)), multi_label=config.multi_label)
        for name, part in zip(PARTS, parts, strict=False)
    }
    if not config.multi_label:
        most = torch.bincount(targets, minlength=config.num_classes).argmax()
        probabilities["most frequent label"] = F.one_hot(most, config.num_classes).expand(len(targets), -1)
    found = {}
    for name, one in probabilities.items():
        tally = tally_of(config, one, targets, decide(one, targets, more=more if name == PARTS[1] else None))
        found[name] = {"accuracy": tally.accuracy, "macro_f1": tally.macro_f1, "micro_f1": tally.micro_f1}
    return found


def combine(
    module: TextClassifier, branch: NgramBranch | None, calibration: Calibration, *, weights: str = FLOAT32
) -> TextClassifier:
    """One module, in eval mode on the CPU, whose logits are the sum of both parts' logits times their scales.

    The scales go into the last layer of each part, so nothing has to be known of them to serve the module.
    """
    whole = TextClassifier(config=replace(module.config, ngram_rows=0 if branch is None else len(branch.idf)))
    tensors = {} if branch is None else {f"ngrams.{name}": tensor for name, tensor in branch.state_dict().items()}
    whole.load_state_dict({**module.state_dict(), **tensors})
    with torch.no_grad():
        for part, scale in zip((whole.output, whole.ngrams), calibration.scales, strict=False):
            for parameter in part.parameters() if part is not None else ():
                parameter.mul_(scale)
        whole.output.bias.add_(calibration.offset)
    if weights == INT8:  # here, so that what is measured is what is saved
        round_weights(whole)
    return whole.eval()
