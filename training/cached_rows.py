"""Encoded texts in the cache as training takes them: each batch is gathered from what is mapped into memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.tokenizer import Tokenizer, pad
from training.batches import Dataset, Lengths
from training.cache_tokens import CachedTokens
from training.cached_texts import CachedTexts
from training.options import CHARACTERS_IN_MEMORY, TEXTS_IN_MEMORY
from training.sampled import Numbers, sample_rows, within

NGRAM_TEXTS, NGRAM_BYTES = TEXTS_IN_MEMORY, CHARACTERS_IN_MEMORY
"""That the linear branch is fitted to, at most, in texts and in bytes of UTF-8 (docs/decisions.md)."""
GATHERED_AT_ONCE = 65_536


class Part:
    """The rows of texts that are not held back, with numbers of their own from 0 on: 8 bytes for each held one."""

    def __init__(self, *, texts: CachedTexts, held: Numbers) -> None:
        self.texts = texts
        self.held = held
        self._before = held - np.arange(len(held))  # the number of each, were it not held

    def __len__(self) -> int:
        return len(self.texts) - len(self.held)

    def rows(self, numbers: Numbers) -> Numbers:
        """Their rows in the cache."""
        return numbers + np.searchsorted(self._before, numbers, side="right")


@dataclass(frozen=True)
class _Lengths:
    """Of the texts of a part, looked up as they are asked for."""

    part: Part
    tokens: CachedTokens

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, numbers: Numbers) -> NDArray[np.int32]:
        found: NDArray[np.int32] = self.tokens.lengths[self.part.rows(numbers)]
        return found


class CachedRows:
    """As of training.batches.Rows: a part of texts in the cache."""

    def __init__(self, *, part: Part, tokens: CachedTokens, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self._part = part
        self._tokens = tokens
        self._tokenizer = tokenizer
        self._config = config
        place = {label: index for index, label in enumerate(config.labels)}
        self._places = np.array([place.get(label, -1) for label in part.texts.labels])
        self.lengths: Lengths = _Lengths(part, tokens)

    def __len__(self) -> int:
        return len(self._part)

    def __add__(self, other: Dataset) -> "JoinedRows":
        return JoinedRows(self, other)

    @property
    def tokens(self) -> int:
        """Of all texts together."""
        return self._tokens.tokens - int(self._tokens.lengths[self._part.held].sum(dtype=np.int64))

    @property
    def longest(self) -> int:
        """Tokens of the longest text, or of one that is held back."""
        return int(self._tokens.lengths.max())

    @property
    def targets(self) -> Tensor:
        """As of Dataset, in memory."""
        starts = range(0, len(self), GATHERED_AT_ONCE)
        return torch.cat([
            self.targets_of(np.arange(start, min(start + GATHERED_AT_ONCE, len(self)))) for start in starts
        ])  # fmt: skip

    def input_ids(self, tokens: int) -> list[NDArray[Any]]:
        """The ids of texts at even distances, about so many tokens."""
        return self.ids_of(np.arange(0, len(self), max(1, self.tokens // tokens)))

    def every(self, step: int) -> Dataset:
        """Each text whose number is a multiple of step, with its n-grams; of more than NGRAM_TEXTS a sample."""
        examples = self._part.texts.examples(self.sampled(step))
        return Dataset.of(examples, tokenizer=self._tokenizer, config=self._config)

    def sampled(self, step: int) -> Numbers:
        """The rows of the cache that `every` gives."""
        numbers = step * sample_rows(-(-len(self) // step), most=NGRAM_TEXTS)
        return within(self._part.rows(numbers), self._part.texts.sizes, NGRAM_BYTES)

    def batch(self, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """input_ids (B, T) and targets (B,) of these rows."""
        return torch.from_numpy(pad(self.ids_of(numbers))), self.targets_of(numbers)

    def ids_of(self, numbers: Numbers) -> list[NDArray[Any]]:
        """The ids of each text."""
        return self._tokens.at(self._part.rows(numbers))

    def targets_of(self, numbers: Numbers) -> Tensor:
        """Dataset.targets of these."""
        rows, texts = self._part.rows(numbers), self._part.texts
        if not self._config.multi_label:
            return torch.from_numpy(self._places[texts.code_of(rows)])
        targets = torch.zeros(len(rows), self._config.num_classes)
        for place, row in enumerate(rows.tolist()):
            targets[place, self._places[texts.codes(row)]] = 1
        return targets


class JoinedRows:
    """As of training.batches.Rows: texts in the cache, and after them some in memory."""

    def __init__(self, first: CachedRows, second: Dataset) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __add__(self, other: Dataset) -> "JoinedRows":
        return JoinedRows(self._first, self._second + other)

    @property
    def tokens(self) -> int:
        """Of all texts together."""
        return self._first.tokens + self._second.tokens

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(self._first.longest, self._second.longest)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, in memory."""
        return np.concatenate([self._first.lengths[np.arange(len(self._first))], self._second.lengths])

    @property
    def targets(self) -> Tensor:
        """As of Dataset, in memory."""
        return torch.cat([self._first.targets, self._second.targets])

    def input_ids(self, tokens: int) -> list[NDArray[Any]]:
        """The ids of texts at even distances, and of all in memory."""
        return self._first.input_ids(tokens) + self._second.input_ids(tokens)

    def every(self, step: int) -> Dataset:
        """As of CachedRows; those in memory go on counting where it ends."""
        skipped = -len(self._first) % step
        rest = Dataset(self._second.encoded[skipped:], self._second.targets[skipped:])
        return self._first.every(step) + rest.every(step)

    def batch(self, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """input_ids (B, T) and targets (B,) of these rows."""
        count, inside = len(self._first), numbers < len(self._first)
        ids, found = self._first.ids_of(numbers[inside]), self._first.targets_of(numbers[inside])
        targets = found.new_empty(len(numbers), *found.shape[1:])
        chosen = torch.from_numpy(inside)
        targets[chosen], targets[~chosen] = found, self._second.targets[torch.from_numpy(numbers[~inside] - count)]
        cached = iter(ids)
        every = [next(cached) if number < count else self._second.encoded[number - count].input_ids
                 for number in numbers.tolist()]  # fmt: skip
        return torch.from_numpy(pad(every)), targets
