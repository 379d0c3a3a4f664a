"""Text to what a TextClassifier reads: its token ids and, where the config asks for them, its n-grams."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nlp_app.config import ModelConfig
from nlp_app.ngrams import NONE, Ngrams, count_ngrams
from nlp_app.tokenizer import CHARACTERS_PER_TOKEN, Tokenizer, padded_length

TOKENS_PER_BATCH = 8192
"""Padded tokens in one forward pass at most; with the default model about 35 MB of activations."""


class Encoded(NamedTuple):
    """One text, not padded yet."""

    input_ids: NDArray[np.int32]
    """(T,), at least one id: a blank text is one UNK_ID."""
    truncated: bool
    """True where the text was longer than the maximum."""
    ngrams: Ngrams = NONE


def encode(texts: Sequence[str], *, tokenizer: Tokenizer, config: ModelConfig) -> list[Encoded]:
    """Encode texts one by one, for training and serving alike; the answer to one does not depend on the others.

    Raises:
        TokenizerError: a text is not a str, or holds a lone surrogate, which is no character.
    """
    length = config.max_length
    tokens = tokenizer.encode(texts, max_length=length)
    if not config.ngram_slots:
        return [Encoded(*one) for one in tokens]
    reach = reach_of(config)
    counted = count_ngrams(
        [text[:reach] for text in texts], num_slots=config.ngram_slots, char_orders=config.ngram_orders
    )
    return [Encoded(*one, ngrams) for one, ngrams in zip(tokens, counted, strict=True)]


def reach_of(config: ModelConfig) -> int:
    """Characters of a text that are read by any part of a model."""
    return config.max_length * CHARACTERS_PER_TOKEN


def batches(lengths: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """Row numbers by length, longest first, so that a batch too large for the memory shows at once."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        size = max(1, TOKENS_PER_BATCH // padded_length(lengths[order[start]]))
        yield order[start : start + size]
        start += size
