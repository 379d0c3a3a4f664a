"""Encoded texts to logits, in batches: what Predictor, the golden inputs, validation and evaluation share."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nlp_app import probabilities
from nlp_app.compiled import CompiledClassifier
from nlp_app.encoding import Encoded, batches
from nlp_app.folded import FoldedClassifier
from nlp_app.model import TextClassifier
from nlp_app.ngram_batch import join
from nlp_app.probabilities import Floats
from nlp_app.tokenizer import pad

TEXTS_AT_ONCE = 256
"""Whose n-grams are looked up together."""


def ask(
    module: TextClassifier | FoldedClassifier | CompiledClassifier, encoded: Sequence[Encoded]
) -> tuple[Floats, Floats]:
    """What score and familiarity give, at once, as arrays."""
    if isinstance(module, CompiledClassifier):
        return module.ask(encoded)
    return score(module, encoded).numpy(), familiarity(module, encoded).numpy()


def score(module: TextClassifier | FoldedClassifier | CompiledClassifier, encoded: Sequence[Encoded]) -> Tensor:
    """The logits of encoded texts; texts of like length share a batch.

    Args:
        module: in eval mode, as it is or as of nlp_app.compiled.fastest.
        encoded: N texts, encoded with the module's tokenizer and config.

    Returns:
        (N, C) float32 on the CPU, in the order of the texts.
    """
    if isinstance(module, CompiledClassifier):
        return torch.from_numpy(module.ask(encoded)[0])
    logits = np.empty((len(encoded), module.config.num_classes), dtype=np.float32)
    device = module.device
    with torch.inference_mode():
        for rows in batches([len(text.input_ids) for text in encoded]):
            input_ids = torch.from_numpy(pad([encoded[row].input_ids for row in rows]))
            ngrams = None if module.ngrams is None else join([encoded[row].ngrams for row in rows]).to(device)
            logits[rows] = module.logits(input_ids.to(device), ngrams).float().cpu().numpy()
    return torch.from_numpy(logits)


def familiarity(module: TextClassifier | FoldedClassifier, encoded: Sequence[Encoded]) -> Tensor:
    """How much of each text the training texts had: the share of its n-grams; 1 where the module reads none.

    Args:
        module: in eval mode.
        encoded: N texts, encoded with the module's tokenizer and config.

    Returns:
        (N,) float32 on the CPU, from 0 to 1.
    """
    if module.ngrams is None or not encoded:
        return torch.ones(len(encoded))
    known = module.ngrams.rows.cpu().numpy()
    found = np.empty(len(encoded), dtype=np.float32)
    for start in range(0, len(encoded), TEXTS_AT_ONCE):
        slots = [text.ngrams.slots for text in encoded[start : start + TEXTS_AT_ONCE]]
        rows = known.take(slots[0] if len(slots) == 1 else np.concatenate(slots))
        lengths = np.array([len(one) for one in slots])  # none is 0: a blank text has its two ends side by side
        sums = np.add.reduceat(rows > 0, lengths.cumsum() - lengths, dtype=np.float32)
        found[start : start + TEXTS_AT_ONCE] = sums / lengths
    return torch.from_numpy(found)


def to_probabilities(logits: Tensor, *, multi_label: bool) -> Tensor:
    """(N, C) -> (N, C): of one label each, which sum to 1; or of each label by itself."""
    return torch.from_numpy(probabilities.to_probabilities(logits.numpy(), multi_label=multi_label))
