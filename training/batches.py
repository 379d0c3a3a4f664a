"""Encoded, labelled texts, and the order in which an epoch takes them."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.encoding import Encoded, encode
from nlp_app.tokenizer import Tokenizer, pad
from training.data import Examples
from training.sampling import take

BATCHES_PER_POOL = 16
Item = TypeVar("Item")
Result = TypeVar("Result")


class Lengths(Protocol):
    """Tokens of each of N texts, such as an array of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Of these rows, an array (M,)."""


class Rows(Protocol):
    """Encoded texts with their classes that can be trained on, wherever they are kept."""

    def __len__(self) -> int: ...

    def __add__(self, other: "Dataset", /) -> "Rows": ...

    @property
    def targets(self) -> Tensor:
        """As of Dataset; of rows that are not in memory they are made anew each time."""

    @property
    def lengths(self) -> Lengths:
        """Tokens of each text."""

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""

    @property
    def tokens(self) -> int:
        """Of all texts together, as far as the model reads them."""

    def input_ids(self, tokens: int) -> list[NDArray[Any]]:
        """The ids of texts: of all, or where they are not in memory at even distances, about so many tokens."""

    def every(self, step: int) -> "Dataset":
        """Each text whose number is a multiple of step; where they are not in memory a sample of these."""

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """input_ids (B, T) and targets (B,) of these rows."""


@dataclass(frozen=True)
class Dataset:
    """Encoded texts with their classes."""

    encoded: list[Encoded]
    targets: Tensor
    """(N,) int64, places in the model's labels; for several labels a text (N, C) float32, 1 where it has the label."""

    @classmethod
    def of(cls, examples: Examples, *, tokenizer: Tokenizer, config: ModelConfig) -> "Dataset":
        """Encode examples whose labels are all among the config's."""
        if unknown := sorted(examples.label_counts.keys() - set(config.labels)):
            raise KeyError(unknown[0])
        return cls(encode(examples.texts, tokenizer=tokenizer, config=config), targets_of(examples, config))

    def __len__(self) -> int:
        return len(self.encoded)

    def __add__(self, other: "Dataset") -> "Dataset":
        return Dataset(self.encoded + other.encoded, torch.cat([self.targets, other.targets]))

    def every(self, step: int) -> "Dataset":
        """Each text whose number is a multiple of step."""
        return Dataset(self.encoded[::step], self.targets[::step])

    def where(self, chosen: Tensor) -> "Dataset":
        """The texts that (N,) bool is true of."""
        return Dataset(list(compress(self.encoded, chosen.tolist())), self.targets[chosen])

    @property
    def tokens(self) -> int:
        """Of all texts together, as far as the model reads them."""
        return sum(len(text.input_ids) for text in self.encoded)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text."""
        return np.array([len(text.input_ids) for text in self.encoded])

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(len(text.input_ids) for text in self.encoded)

    def input_ids(self, _: int) -> list[NDArray[Any]]:
        """Of every text."""
        return [text.input_ids for text in self.encoded]

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """input_ids (B, T) and targets (B,) of these rows."""
        input_ids = pad([self.encoded[row].input_ids for row in rows])
        return torch.from_numpy(input_ids), self.targets[torch.from_numpy(rows)]


def targets_of(examples: Examples, config: ModelConfig) -> Tensor:
    """Dataset.targets; a label that the config does not have is -1, or left out where a text may have several."""
    place = {label: index for index, label in enumerate(config.labels)}
    if not config.multi_label:
        return torch.tensor([place.get(label, -1) for (label,) in examples.label_lists], dtype=torch.int64)
    targets = torch.zeros(len(examples), config.num_classes)
    for row, labels in enumerate(examples.label_lists):
        targets[row, [place[label] for label in labels if label in place]] = 1
    return targets


def epoch_batches(
    lengths: Sequence[int] | Lengths,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    shares: NDArray[np.float64] | None = None,
) -> list[NDArray[np.int64]]:
    """The rows of each batch of one epoch: every row once, batches of texts of like length in random order.

    With shares (N,) each row is taken as often as its share says, as many rows in all.

    Shuffled first and sorted only within pools of BATCHES_PER_POOL batches: sorting the whole set would put like
    texts together in every epoch, and BatchNorm's statistics in training would not be those of the set
    (docs/decisions.md has the scores). The same arguments give the same batches.
    """
    draw = np.random.default_rng([seed, epoch])
    order = draw.permutation(len(lengths)) if shares is None else take(draw, shares)
    by_length: Lengths = np.asarray(lengths) if isinstance(lengths, Sequence) else lengths
    batches: list[NDArray[np.int64]] = []
    for pool in _slices(order, batch_size * BATCHES_PER_POOL):  # in place: of many texts there is one array of rows
        pool[:] = pool[np.argsort(by_length[pool], kind="stable")]
        batches += _slices(pool, batch_size)
    draw.shuffle(batches)
    return list(_without_single(batches))


def steps_per_epoch(texts: int, batch_size: int) -> int:
    """How many batches epoch_batches makes of so many texts."""
    joins = texts > batch_size and texts % batch_size == 1
    return -(-texts // batch_size) - joins


def on_device(
    data: Rows, batches: Sequence[NDArray[np.int64]], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """input_ids and targets of each batch, on the device.

    For a GPU the next batch is padded, pinned and sent by another thread while the one before is worked on; on the CPU
    that thread would take the cores that the work needs.
    """
    if device.type != "cuda":
        yield from (data.batch(rows) for rows in batches)
        return

    def send(rows: NDArray[np.int64]) -> tuple[Tensor, ...]:
        return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in data.batch(rows))

    yield from one_ahead(send, batches)  # type: ignore[misc]


def one_ahead(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results of the work in the order of the items, each begun in another thread before the one before is used."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming: deque[Future[Result]] = deque()
        for item in items:
            coming.append(thread.submit(work, item))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _slices(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _without_single(batches: list[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """A batch of one text may be one token, of which BatchNorm can take no variance: join it to its neighbour."""
    single = next((index for index, rows in enumerate(batches) if len(rows) == 1), None)
    if single is None or len(batches) == 1:
        yield from batches
        return
    joined = batches.pop(single)
    batches[-1] = np.concatenate([batches[-1], joined])
    yield from batches
