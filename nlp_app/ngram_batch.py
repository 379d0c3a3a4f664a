"""The n-grams of several texts, as tensors: what the linear branch of a TextClassifier is given."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nlp_app.ngrams import Ngrams


class NgramBatch(NamedTuple):
    """The n-grams of B texts, one after the other."""

    slots: Tensor
    """(G,) int32."""
    counts: Tensor
    """(G,) float32."""
    offsets: Tensor
    """(B,) int32, where each text begins."""
    texts: Tensor
    """(G,) int32, the text of each n-gram."""

    def to(self, device: torch.device) -> "NgramBatch":
        """The same on another device."""
        return NgramBatch(*(tensor.to(device) for tensor in self))


def join(ngrams: Sequence[Ngrams]) -> NgramBatch:
    """Texts into a batch."""
    lengths = np.array([len(text.slots) for text in ngrams])
    arrays = (
        np.concatenate([text.slots for text in ngrams]),
        np.concatenate([text.counts for text in ngrams]),
        (lengths.cumsum() - lengths).astype(np.int32),
        np.arange(len(ngrams), dtype=np.int32).repeat(lengths),
    )
    return NgramBatch(*map(torch.from_numpy, arrays))
