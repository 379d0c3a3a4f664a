"""The options of `python -m training.run`: each field below is a flag, its default and its rule."""

import argparse
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nlp_app.errors import ConfigError
from nlp_app.tokenizer import KINDS
from training.learner import Recipe

SAMPLE = Path(__file__).parent / "sample"
OPEN = "by the number of texts"
REFIT = ("auto", "always", "never")
REFIT_TEXTS = 20_000
"""With more training texts the held-back tenth added nothing that could be measured (docs/decisions.md)."""


def _option(default: Any, text: str, *, free: bool = False, **rule: Any) -> Any:
    """A field that is a flag.

    Args:
        default: its value where the flag is not given.
        text: its help.
        free: whether a resumed run may differ in it from the interrupted one.
        rule: low and high, inclusive, of a number; choices of a word; many for a flag that takes several values.
    """
    return field(default=default, metadata={"help": text, "free": free, **rule})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for; how the defaults were found is in docs/decisions.md."""

    train: Path = _option(
        SAMPLE / "train.csv", "labelled texts: .csv, .tsv, .jsonl or .parquet, each also as .gz", free=True
    )
    validation: Path | None = _option(
        None, "labelled texts that choose the epoch; default: a part of --train", free=True
    )
    test: Path | None = _option(None, "labelled texts, read after training ended, that measure the result", free=True)
    output: Path = _option(Path("checkpoint"), "folder for the checkpoint", free=True)
    text_column: tuple[str, ...] = _option(("text",), "column with the text; several are joined by a space", many=True)
    label_column: str = _option("label", "column with the label")
    overwrite: bool = _option(False, "replace the checkpoint in --output, or an interrupted run beside it", free=True)
    resume: bool = _option(False, "go on with the interrupted run of --output", free=True)
    device: str = _option("auto", "cpu, cuda, cuda:1 …; auto takes a GPU where there is one", free=True)
    seed: int = _option(0, "two runs with one seed give the same weights on one machine", low=0, high=2**31)
    validation_share: float = _option(0.1, "part of --train held back without --validation", low=0.01, high=0.5)
    refit: str = _option(
        "auto",
        "train again on all rows once the epochs are known; auto: a small set with no --validation",
        choices=REFIT,
    )
    tokenizer: str = _option("words", "what a token is", choices=KINDS)
    vocab_size: int = _option(30_000, "tokens at most", low=3, high=10_000_000)
    min_frequency: int = _option(2, "tokens seen less often become UNK", low=1, high=1_000_000)
    max_length: int = _option(512, "tokens of a text that are read", low=1, high=65_536)
    embedding_dim: int = _option(128, "width of a token's vector", low=1, high=8192)
    num_filters: int = _option(64, "filters a kernel size", low=1, high=8192)
    kernel_sizes: tuple[int, ...] = _option(
        (1, 3, 5), "widths of the convolutions, in tokens", many=True, low=1, high=64
    )
    num_blocks: int = _option(1, "convolution blocks on top of each other", low=1, high=64)
    dropout: float = _option(0.5, "share of the pooled features zeroed in training", low=0, high=0.95)
    token_dropout: float = _option(0.1, "share of the tokens hidden in training", low=0, high=0.95)
    epochs: int | None = _option(None, "passes over the training texts, at most", low=1, high=100_000)
    patience: int | None = _option(
        None, "stop when this many epochs brought no lower validation loss", low=1, high=100_000
    )
    batch_size: int = _option(64, "texts in a step", low=2, high=1_000_000)
    learning_rate: float = _option(1.5e-3, "of AdamW", low=1e-8, high=10)
    weight_decay: float = _option(0.01, "of AdamW", low=0, high=10)
    average_decay: float = _option(
        0.99, "of the running mean of the weights, which is what is kept", low=0, high=0.99999
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            _check(option, getattr(self, option.name))

    def recipe(self, texts: int) -> Recipe:
        """The part that says how a module is trained; what was left open is settled by the number of training texts.

        A small set needs more epochs to take as many steps, and its validation score is noisier.
        """
        steps = -(-texts // self.batch_size)
        open_values = {"epochs": _clamp(1500 / steps, 6, 100), "patience": _clamp(400 / steps, 2, 20)}
        values = {option.name: getattr(self, option.name) for option in fields(Recipe)}
        return Recipe(**{name: open_values[name] if value is None else value for name, value in values.items()})

    def wants_refit(self, texts: int) -> bool:
        """Whether to train again on all rows, given the number of training texts.

        By default where the validation part was taken from the training file and the set is small enough to gain by it.
        """
        return self.refit == "always" or (self.refit == "auto" and self.validation is None and texts <= REFIT_TEXTS)

    def fingerprint(self) -> dict[str, Any]:
        """What a resumed run must have in common with the interrupted one, as JSON values."""
        binding = {option.name for option in fields(self) if not option.metadata["free"]}
        return {name: _plain(value) for name, value in asdict(self).items() if name in binding}


def parse_options(arguments: list[str]) -> Options:
    """Read the command line; argparse itself exits with 2 on an unknown flag or a word where a number must be.

    Raises:
        ConfigError: a value breaks its rule.
    """
    parser = argparse.ArgumentParser(prog="python -m training.run", description="Train a text classifier.")
    for option in fields(Options):
        _add(parser, option)
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    if "train" not in given:  # the sample set has a test file of its own
        given.setdefault("test", SAMPLE / "test.csv")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return Options(**values)


def _add(parser: argparse.ArgumentParser, option: Field[Any]) -> None:
    flag, rule = f"--{option.name.replace('_', '-')}", option.metadata
    default: Any = option.default
    if isinstance(default, bool):
        parser.add_argument(flag, action="store_true", default=None, help=rule["help"])
        return
    kind: Any = type(default[0] if rule.get("many") else default)
    if default is None:
        kind = int if "low" in rule else Path
    shown = " ".join(map(str, default)) if rule.get("many") else default
    shown = {"train": "the sample set", "epochs": OPEN, "patience": OPEN}.get(
        option.name, "none" if shown is None else shown
    )
    action: Any = "extend" if rule.get("many") else "store"
    parser.add_argument(
        flag, type=kind, action=action, nargs="+" if rule.get("many") else None, choices=rule.get("choices"),
        help=f"{rule['help']} (default: {shown})", metavar=None if rule.get("choices") else option.name.upper(),
    )  # fmt: skip


def _clamp(value: float, low: int, high: int) -> int:
    return max(low, min(high, round(value)))


def _check(option: Field[Any], value: Any) -> None:
    if "low" not in option.metadata or value is None:
        return
    low, high = option.metadata["low"], option.metadata["high"]
    for number in value if isinstance(value, tuple) else (value,):
        if not low <= number <= high:  # also false for NaN
            flag = f"--{option.name.replace('_', '-')}"
            raise ConfigError(f"{flag} is {number}, but must be from {low:,} to {high:,}")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
