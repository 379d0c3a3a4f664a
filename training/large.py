"""Texts that are more than memory should hold: from a source to the parts that training reads, by way of the cache."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console

from nlp_app.config import ModelConfig
from nlp_app.tokenizer import Tokenizer
from training.batches import Rows
from training.cache_files import key_of
from training.cache_texts import cache_texts, need_of
from training.cache_tokens import cache_tokens
from training.cached_rows import NGRAM_BYTES, NGRAM_TEXTS, CachedRows, Part
from training.cooccurrence import TOKENS
from training.data import label_set
from training.held import held_rows
from training.sampled import sample_rows, within
from training.stream import Stream

TOKENIZER_TEXTS, TOKENIZER_BYTES = 300_000, 100_000_000
"""That the tokenizer is trained on, at most, in texts and in their UTF-8 (docs/decisions.md)."""


def cache_folder(given: Path | None) -> Path:
    """The user's, or the one for caches of the system: runs with other outputs share it."""
    if given is not None:
        return given
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "nlp_app"


class LargePart(Part):
    """The training part of texts in the cache."""

    def __init__(self, *, source: Stream, cache: Path, share: float | None, seed: int, console: Console) -> None:
        """Read what is not in the cache yet.

        Args:
            source: of the texts.
            cache: the folder.
            share: to be held back for validation; None: none is.
            seed: of the draw.
            console: told of it.
        """
        texts = cache_texts(source, cache, console)
        label_set(texts)
        held = np.zeros(0, dtype=np.int64) if share is None else held_rows(texts, share=share, seed=seed)
        super().__init__(texts=texts, held=held)
        self.held_back = texts.examples(held)
        """In memory."""
        self._cache, self._need, self._console = cache, need_of(source), console
        self.sample = within(self.rows(sample_rows(len(self), most=TOKENIZER_TEXTS)), texts.sizes, TOKENIZER_BYTES)
        """Rows of the cache that the tokenizer is trained on."""

    @property
    def path(self) -> Path:
        """Where the texts come from."""
        return self.texts.path

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels or none."""
        return self.texts.multi_label

    @property
    def label_counts(self) -> Counter[str]:
        """How many texts have each label."""
        return self.texts.label_counts - self.held_back.label_counts

    @property
    def characters(self) -> int:
        """Of all texts together."""
        characters: int = self.texts.told["characters"]
        return characters - self.held_back.characters

    @property
    def digest(self) -> str:
        """Another part, or another sample, has another one."""
        return key_of(self.texts.digest, self.held.tolist(), len(self.sample), NGRAM_TEXTS, NGRAM_BYTES, TOKENS)

    def sample_texts(self) -> Iterator[str]:
        """What the tokenizer is trained on."""
        return self.texts.texts(self.sample)

    def encoded(self, tokenizer: Tokenizer, config: ModelConfig) -> CachedRows:
        """Tokenise what is not in the cache yet."""
        tokens = cache_tokens(
            self.texts, self._cache, tokenizer, max_length=config.max_length, need=self._need, console=self._console
        )
        return CachedRows(part=self, tokens=tokens, tokenizer=tokenizer, config=config)

    def told(self, rows: Rows, ngram_every: int, config: ModelConfig) -> dict[str, int]:
        """For metrics.json, and said aloud: how many texts each part of the model is fitted to."""
        assert isinstance(rows, CachedRows)
        told = {
            "texts": len(self.texts),
            "tokenizer_texts": len(self.sample),
            "vector_texts": len(range(0, len(self), max(1, rows.tokens // TOKENS))),
            "ngram_texts": len(rows.sampled(ngram_every)) if config.ngram_slots else 0,
        }
        self._console.print(
            f"of {len(self):,} training texts the tokenizer has seen {told['tokenizer_texts']:,}, drawn by chance; "
            f"n-grams are fitted to {told['ngram_texts']:,}, word vectors to {told['vector_texts']:,}, "
            "the convolution to all"
        )
        return told
