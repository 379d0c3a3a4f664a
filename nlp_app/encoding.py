"""Text to what a TextClassifier reads: its token ids and, where the config asks for them, its n-grams."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nlp_app.config import ModelConfig
from nlp_app.ngrams import NONE, Ngrams, count_ngrams
from nlp_app.tokenizer import CHARACTERS_PER_TOKEN, Tokenizer

NGRAM_REACH = 4
"""N-grams are taken of so many times the tokens that the convolution reads: they cost little."""
TEXTS_PER_COUNT = 64
"""Counted together: enough to hide the calls of the array library, few enough for the cache."""


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
    length, reach = config.max_length, reach_of(config)
    if not config.ngram_slots:
        return [Encoded(*tokens) for tokens in tokenizer.encode(texts, max_length=length)]
    encoded: list[Encoded] = []
    for start in range(0, len(texts), TEXTS_PER_COUNT):
        chunk = texts[start : start + TEXTS_PER_COUNT]
        tokens = tokenizer.encode(chunk, max_length=reach)
        counted = count_ngrams(
            [text[: reach * CHARACTERS_PER_TOKEN] for text in chunk],
            [ids for ids, _ in tokens],
            num_slots=config.ngram_slots,
            char_orders=config.ngram_orders,
        )
        encoded += [
            Encoded(ids[:length], truncated or len(ids) > length, ngrams)
            for (ids, truncated), ngrams in zip(tokens, counted, strict=True)
        ]
    return encoded


def reach_of(config: ModelConfig) -> int:
    """Tokens of a text that are read by any part of a model."""
    return config.max_length * (NGRAM_REACH if config.ngram_slots else 1)
