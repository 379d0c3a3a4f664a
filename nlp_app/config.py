"""ModelConfig: everything needed to build a TextClassifier, and nothing else; it travels with the weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from nlp_app.errors import ConfigError

SINCE_THE_FIRST = {"output", "multi_label", "ngram_slots", "ngram_orders", "ngram_rows"}
"""What the checkpoints of version 0.1 lack."""
OUTPUTS = ("logits", "log_probabilities")
SLOTS = (1 << 10, 1 << 24)
MOST = {"num_blocks": 1000, "max_length": 65_536}
"""Blocks are built before anything can be compared with a checkpoint's tensors; a text costs what its length says."""
LONGEST_ORDER = 32


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture, complete: the same config builds the same module in training and in serving.

    Attributes:
        labels: the classes in the order of the output layer; their number is the number of classes.
        vocab_size: rows of the embedding, PAD and UNK included.
        embedding_dim: E, the width of a token's vector.
        num_filters: F, filters for each kernel size.
        kernel_sizes: widths in tokens of the convolutions that stand side by side in a block.
        num_blocks: blocks on top of each other; every block after the first adds its input to its output.
        dropout: share of the pooled features that is zeroed in training.
        max_length: T at most; a longer text is cut.
        output: what forward ends in, by the loss that the module is trained with; it has logits in any case.
        multi_label: whether a text may have several labels or none: then each logit is one of its own.
        ngram_slots: a power of two, the slots into which n-grams are hashed; 0: texts are read without n-grams.
        ngram_orders: lengths of the n-grams of characters; none: n-grams of words alone.
        ngram_rows: rows of the linear branch over n-grams, the one of unseen n-grams included; 0: there is no branch.
    """

    labels: tuple[str, ...]
    vocab_size: int
    embedding_dim: int = 128
    num_filters: int = 64
    kernel_sizes: tuple[int, ...] = (1, 3, 5)
    num_blocks: int = 1
    dropout: float = 0.5
    max_length: int = 512
    output: str = "logits"
    multi_label: bool = False
    ngram_slots: int = 0
    ngram_orders: tuple[int, ...] = ()
    ngram_rows: int = 0

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        for name in ("embedding_dim", "num_filters", "num_blocks", "max_length"):
            _check_whole(name, getattr(self, name), at_least=1)
        for name, most in MOST.items():
            if (value := getattr(self, name)) > most:
                raise ConfigError(f"{name} is {value}, but must be at most {most:,}")
        _check_whole("vocab_size", self.vocab_size, at_least=2)
        _check_kernel_sizes(self.kernel_sizes)
        if not (isinstance(self.dropout, int | float) and 0 <= self.dropout < 1):
            raise ConfigError(f"dropout is {self.dropout!r}, but must be a number from 0 up to, not including, 1")
        if self.output not in OUTPUTS:
            raise ConfigError(f"output is {self.output!r}, but must be one of {', '.join(OUTPUTS)}")
        if not isinstance(self.multi_label, bool) or (self.multi_label and self.output != "logits"):
            raise ConfigError(
                f"multi_label is {self.multi_label!r}, but must be true or false, and true with logits only"
            )
        _check_ngrams(self.ngram_slots, self.ngram_orders, self.ngram_rows)

    @property
    def num_classes(self) -> int:
        """C, derived from the labels."""
        return len(self.labels)

    def to_json(self) -> dict[str, Any]:
        """The config as plain JSON values."""
        lists = {
            "labels": list(self.labels),
            "kernel_sizes": list(self.kernel_sizes),
            "ngram_orders": list(self.ngram_orders),
        }
        return asdict(self) | lists

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Build a config from what to_json gave.

        Raises:
            ConfigError: a key is missing, is unknown to this version, or has a value that breaks a rule.
        """
        known = {field.name for field in fields(cls)}
        if missing := sorted(known - values.keys() - SINCE_THE_FIRST):
            raise ConfigError(f"the model's config lacks {', '.join(map(repr, missing))}")
        if unknown := sorted(values.keys() - known):
            raise ConfigError(
                f"the model's config has keys that this version does not know: {', '.join(map(repr, unknown))}"
            )
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**given)


def _check_labels(labels: tuple[str, ...]) -> None:
    if not isinstance(labels, tuple) or not all(isinstance(label, str) for label in labels):
        raise ConfigError(f"labels are {labels!r}, but must be a tuple of strings")
    if len(labels) < 2:
        raise ConfigError(f"a classifier needs at least 2 labels, not {len(labels)}: {list(labels)}")
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ConfigError(f"label {twice!r} stands more than once in labels, which must be distinct")


def _check_whole(name: str, value: object, *, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ConfigError(f"{name} is {value!r}, but must be a whole number of {at_least} or more")


def _check_kernel_sizes(sizes: tuple[int, ...]) -> None:
    if not isinstance(sizes, tuple) or not sizes:
        raise ConfigError(f"kernel_sizes is {sizes!r}, but must hold at least one width")
    for size in sizes:
        _check_whole("a kernel size", size, at_least=1)


def _check_ngrams(slots: object, orders: object, rows: object) -> None:
    for name, value in (("ngram_slots", slots), ("ngram_rows", rows)):
        _check_whole(name, value, at_least=0)
    assert isinstance(slots, int)
    assert isinstance(rows, int)
    if slots and not (SLOTS[0] <= slots <= SLOTS[1] and slots.bit_count() == 1):
        raise ConfigError(f"ngram_slots is {slots}, but must be 0 or a power of two from {SLOTS[0]:,} to {SLOTS[1]:,}")
    if rows > slots + 1:
        raise ConfigError(f"ngram_rows is {rows}, but must be at most one more than ngram_slots, which is {slots}")
    if not isinstance(orders, tuple):
        raise ConfigError(f"ngram_orders is {orders!r}, but must be a tuple of lengths")
    for order in orders:
        _check_whole("a length in ngram_orders", order, at_least=2)
        if order > LONGEST_ORDER:
            raise ConfigError(f"a length in ngram_orders is {order}, but must be at most {LONGEST_ORDER}")
    if orders != tuple(range(min(orders, default=0), max(orders, default=-1) + 1)):
        raise ConfigError(f"ngram_orders is {list(orders)}, but must ascend by one")
