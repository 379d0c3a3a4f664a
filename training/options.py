"""The options of `python -m training.run`: each field below is a flag, its default and its rule."""

import argparse
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from nlp_app.errors import ConfigError
from nlp_app.quantize import FLOAT32
from nlp_app.quantize import KINDS as WEIGHTS
from nlp_app.recoding import check_encoding
from nlp_app.tokenizer import KINDS
from training.columns import TEXT
from training.cooccurrence import COOCCURRENCE, STARTS
from training.early_stopping import MEASURES, RULES, EarlyStopping, Margin
from training.flags import add, check, option
from training.linear import KINDS as NGRAMS
from training.losses import AUTO, BALANCED, LOSSES, Loss
from training.recipe import Recipe
from training.recompute import MODES as RECOMPUTE
from training.sampling import NONE, SAMPLINGS
from training.schedules import SCHEDULES
from training.sharding import MODES as SHARDING
from training.sources import Given
from training.step import PRECISIONS

SAMPLE = Path(__file__).parent / "sample"
CACHES = AUTO_CACHE, ALWAYS, NEVER = "auto", "always", "never"
TEXTS_IN_MEMORY, CHARACTERS_IN_MEMORY = 150_000, 40_000_000
"""Of all training texts together: as many as the branch over n-grams is fitted to, at most (docs/decisions.md)."""
OPEN = "by the number of texts"
SHOWN = {
    "cache_dir": "~/.cache/nlp_app",
    "train": "the sample set",
    "label_column": "label, labels, or the one that is called like them",
    "text_column": "text, or the one that is called like it",
    "validation": "none",
    "test": "none",
    "embedding_dim": "128, or that of --vectors",
    "epochs": OPEN,
    "learning_rate": "by the number of classes",
    "patience": OPEN,
    "stop_threshold": "by the rule",
    "evaluate_every": "an epoch",
    "micro_batch_size": "the whole batch",
}
FREEZABLE = ("embedding",)
THRESHOLDS = {"progress": 0.0, "gl": 5.0, "pq": 0.75}
FEW_CLASSES = 16
RATE, RATE_OF_MANY_CLASSES = 1.5e-3, 4e-3
"""With many classes each has few texts in an epoch, and the number of epochs is the limit (docs/decisions.md)."""
RATE_OF_VECTORS = 0.1
"""Of the rate, for an embedding that starts with the vectors of others (docs/decisions.md)."""
REFIT = ("auto", "always", "never")
TOKENS_TO_READ = 40_000_000
"""Of all epochs together, about: imdb's six are 36 million. Sets of more than 7 million tokens have fewer epochs."""
REFIT_TOKENS = 600_000
"""With more of them, in 20,000 short texts or 2,500 long ones, it would take minutes for what could not be measured."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for; how the defaults were found is in docs/decisions.md."""

    train: Given = option(
        SAMPLE / "train.csv",
        "labelled texts: files (.csv, .tsv, .jsonl, .json, .parquet, .arrow, fastText's lines; each also as .gz, "
        ".bz2, .zst), patterns, folders, - for standard input, hub:owner/name, the address of a database",
        free=True,
        many=True,
    )
    validation: Given | None = option(
        None, "labelled texts that choose the epoch; default: a part of --train", free=True, many=True
    )
    test: Given | None = option(
        None, "labelled texts, read after training ended, that measure the result", free=True, many=True
    )
    query: str | None = option(None, "what to read of the database of --train: SELECT text, label FROM …")
    validation_query: str | None = option(None, "of the database of --validation", free=True)
    test_query: str | None = option(None, "of the database of --test", free=True)
    encoding: str | None = option(
        None, "of files of text, such as cp1251; default: what a mark at their beginning says, else UTF-8", free=True
    )
    out_of_scope: Path | None = option(
        None, "texts unlike those of --train, read after training ended: how many are called out of scope", free=True
    )
    vectors: str | None = option(
        None, "of words, to start with: a text file, a name of torchtext's, or a static embedding model", free=True
    )
    embedding_start: str = option(
        COOCCURRENCE,
        "of words without --vectors: what stands near them in the training texts, or chance",
        choices=STARTS,
    )
    unlabelled: Path | None = option(None, "texts without labels, which are learnt from first", free=True)
    output: Path = option(Path("checkpoint"), "folder for the checkpoint", free=True)
    reliability_plot: Path | None = option(
        None, "draw scores against shares of right answers into this .png or .svg file", free=True
    )
    cache: str = option(
        CACHES[0],
        f"texts on disk and not in memory; auto: more than {TEXTS_IN_MEMORY:,} of them, or than "
        f"{CHARACTERS_IN_MEMORY // 1_000_000} million characters",
        choices=CACHES,
        free=True,
    )
    cache_dir: Path | None = option(None, "folder for that; may be removed after training", free=True)
    text_column: tuple[str, ...] = option((), "column with the text; several are joined by a space", many=True)
    label_column: str | None = option(None, "column with the label, or with lists of labels")
    label_separator: str | None = option(None, "what stands between the labels of a text that may have several")
    overwrite: bool = option(False, "replace the checkpoint in --output, or an interrupted run beside it", free=True)
    resume: bool = option(False, "go on with the interrupted run of --output", free=True)
    device: str = option("auto", "cpu, cuda, cuda:1 …; auto takes a GPU where there is one", free=True)
    seed: int = option(0, "two runs with one seed give the same weights on one machine", low=0, high=2**31)
    validation_share: float = option(0.1, "part of --train held back without --validation", low=0.01, high=0.5)
    refit: str = option(
        "auto",
        "train again on all rows once the epochs are known; auto: a small set with no --validation",
        choices=REFIT,
    )
    tokenizer: str = option("words", "what a token is", choices=KINDS)
    vocab_size: int = option(30_000, "tokens at most", low=3, high=10_000_000)
    min_frequency: int = option(2, "tokens seen less often become UNK", low=1, high=1_000_000)
    max_length: int = option(512, "tokens of a text that are read", low=1, high=65_536)
    ngrams: str = option(
        "auto", "that a linear branch reads: words, all (characters too), none; auto: by the amount of text",
        choices=NGRAMS,
    )  # fmt: skip
    ngram_every: int = option(1, "of so many texts one is read by the linear branch", low=1, high=1_000_000)
    threshold_folds: int = option(
        3,
        "of the training texts, for the thresholds of several labels: of each fold, n-grams of the others tell the "
        "labels; 0: by the validation texts alone",
        low=0,
        high=20,
    )
    embedding_dim: int | None = option(None, "width of a token's vector", low=1, high=8192)
    num_filters: int = option(64, "filters a kernel size", low=1, high=8192)
    kernel_sizes: tuple[int, ...] = option(
        (1, 3, 5), "widths of the convolutions, in tokens", many=True, low=1, high=64
    )
    num_blocks: int = option(1, "convolution blocks on top of each other", low=1, high=64)
    dropout: float = option(0.5, "share of the pooled features zeroed in training", low=0, high=0.95)
    token_dropout: float = option(0.1, "share of the tokens hidden in training", low=0, high=0.95)
    loss: str = option("cross-entropy", "of the logits, or nll of log-probabilities", choices=LOSSES)
    label_smoothing: float = option(0.0, "share of the target that all classes get, of cross-entropy", low=0, high=0.9)
    focal_gamma: float = option(0.0, "power of 1 - p that the loss of a text is multiplied by", low=0, high=10)
    class_weights: tuple[str, ...] = option(
        (AUTO,),
        "balanced, none, a number for each label in sorted order, or LABEL=NUMBER for each; "
        "auto: balanced up to a ratio of 4 where classes are skewed",
        many=True,
    )
    sampling: str = option(
        NONE,
        "texts of rare classes more often in an epoch of the convolution: balanced, or by the sqrt of their number",
        choices=SAMPLINGS,
    )
    teacher: str | None = option(
        None,
        "whose scores the convolution learns from: a checkpoint folder, a .jsonl file of scores, or a "
        "sentence-transformers folder or name",
        free=True,
    )
    epochs: int | None = option(None, "passes over the training texts, at most", low=1, high=100_000)
    max_steps: int | None = option(None, "steps of the selection, at most", low=1, high=2**40)
    max_seconds: float | None = option(
        None, "of the whole run, from its start to the checkpoint; --test comes on top", low=1, high=1e8, free=True
    )
    patience: int | None = option(None, "k: stop when the last k evaluations brought nothing", low=1, high=100_000)
    select_by: str = option("loss", "validation score that chooses and stops", choices=MEASURES)
    margin: str = option("0", "what the last k must gain: 0.002, or 0.5se for half a standard error")
    stop_rule: str = option("progress", "of the last k, or gl or pq of Prechelt 1998", choices=RULES)
    stop_threshold: float | None = option(None, "of gl (default: 5) and pq (default: 0.75)", low=0, high=1e6)
    evaluate_every: int | None = option(None, "steps between two evaluations", low=1, high=10_000_000)
    target_precision: float | None = option(
        None, "share of the answers that shall be right: where the score is too low, the model abstains", low=0, high=1
    )
    batch_size: int = option(64, "texts in a step", low=2, high=1_000_000)
    micro_batch_size: int | None = option(
        None,
        "texts of a batch in memory at once: its parts add up to the same update",
        low=1,
        high=1_000_000,
        free=True,
    )
    sharding: str = option(
        "exact", "BatchNorm of parts: by the whole batch, or fast, each by its own", choices=SHARDING
    )
    gradient_checkpointing: str = option(
        "none", "compute blocks twice to save memory; auto: where a batch would not fit", choices=RECOMPUTE, free=True
    )
    freeze: tuple[str, ...] = option((), "parts that are not trained", many=True, choices=FREEZABLE)
    learning_rate: float | None = option(None, "of AdamW", low=1e-8, high=10)
    schedule: str = option("constant", "of the learning rate, after a warm-up", choices=SCHEDULES)
    weight_decay: float = option(0.01, "of AdamW", low=0, high=10)
    average_decay: float = option(
        0.99, "of the running mean of the weights, which is what is kept", low=0, high=0.99999
    )
    precision: str = option(
        "auto", "bf16 where it is safe, float32; auto: bf16 on a GPU that has it", choices=PRECISIONS
    )
    quantize: str = option(FLOAT32, "how the weights are stored: int8 takes a quarter of the bytes", choices=WEIGHTS)
    compile: bool = option(False, "torch.compile: needs a C++ compiler and some minutes of training to pay")
    explain_sizes: bool = option(False, "measure whether other sizes of layers would be faster", free=True)

    def __post_init__(self) -> None:
        for one in fields(self):
            check(one, getattr(self, one.name))
        check_encoding(self.encoding)
        self._check_parts()
        self._check_stopping()
        self._check_teacher()
        if self.threshold_folds == 1:
            raise ConfigError("--threshold-folds 1 leaves no other fold to learn from: give 0, or 2 or more")
        self.loss_of(None)

    def recipe(
        self, texts: int, classes: int, weights: Tensor | None = None, *, tokens: int = 0, multi_label: bool = False
    ) -> Recipe:
        """The part that says how a module is trained; what was left open is settled by the number of training texts.

        A small set needs more epochs to take as many steps, and its validation score is noisier.

        Args:
            texts: in the training part.
            classes: C.
            weights: (C,) of the classes.
            tokens: of the training part; 0 where they are few.
            multi_label: whether a text may have several labels.
        """
        steps = -(-texts // self.batch_size)
        apart = self.evaluate_every or steps
        open_values: dict[str, Any] = {
            "epochs": min(_clamp(1500 / steps, 6, 100), _clamp(TOKENS_TO_READ / max(tokens, 1), 1, 100)),
            "patience": _clamp(400 / apart, 2, 20),
            "learning_rate": RATE if classes <= FEW_CLASSES else RATE_OF_MANY_CLASSES,
        }
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(Recipe) if one.name != "loss"}
        values["loss"] = self.loss_of(weights, multi_label=multi_label)
        for name, value in open_values.items():
            values[name] = value if values[name] is None else values[name]
        return Recipe(**values)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Of texts without labels, where no column is looked for."""
        return self.text_column or (TEXT,)

    @property
    def evened_out(self) -> bool:
        """Whether the convolution leaves out weights of auto, which would even out once more what is drawn evenly.

        The n-grams, which see each text once, need them.
        """
        return self.sampling != NONE and self.class_weights == (AUTO,)

    @property
    def embedding_rate(self) -> float:
        """Of the learning rate, at which the embedding is trained."""
        return 1.0 if self.vectors is None else RATE_OF_VECTORS

    def loss_of(self, weights: Tensor | None, *, multi_label: bool = False) -> Loss:
        """The loss that is minimised.

        Raises:
            ConfigError: an option that it does not have.
        """
        return Loss(
            name=self.loss,
            label_smoothing=self.label_smoothing,
            focal_gamma=self.focal_gamma,
            class_weights=weights,
            multi_label=multi_label,
        )

    def stopping(self, patience: int) -> EarlyStopping:
        """When to stop, with a patience that may have been left open."""
        threshold = THRESHOLDS[self.stop_rule] if self.stop_threshold is None else self.stop_threshold
        return EarlyStopping(
            patience=patience,
            rule=self.stop_rule,
            measure=self.select_by,
            margin=Margin.parse(self.margin),
            threshold=threshold,
        )

    def _check_stopping(self) -> None:
        """Raise a ConfigError where an option is not of the stopping rule."""
        if Margin.parse(self.margin).size and self.stop_rule != "progress":
            raise ConfigError(f"--margin belongs to --stop-rule progress, not to {self.stop_rule}: leave it out")
        if self.stop_threshold is not None and self.stop_rule == "progress":
            raise ConfigError("--stop-threshold belongs to --stop-rule gl or pq, not to progress: leave it out")
        # The schedule reads it too.
        if self.patience is not None and self.stop_rule == "gl" and self.schedule != "plateau":
            raise ConfigError("--patience belongs to --stop-rule progress or pq, not to gl: leave it out")
        if self.patience == 1 and self.stop_rule == "pq":
            raise ConfigError(
                "--patience 1 leaves --stop-rule pq strips of one evaluation, which show no progress: give 2 or more"
            )

    def _check_parts(self) -> None:
        size = self.micro_batch_size
        if size is not None and size > self.batch_size:
            raise ConfigError(
                f"--micro-batch-size is {size}, but must be at most --batch-size, which is {self.batch_size}"
            )
        if size == 1 and self.sharding == "fast":
            raise ConfigError(
                "--micro-batch-size 1 may leave BatchNorm one value per channel, of which there is no variance: "
                "give 2 or more, or --sharding exact"
            )
        if self.sampling != NONE and self.class_weights == (BALANCED,):
            raise ConfigError(
                "--sampling and --class-weights balanced both even out the classes: leave one of them out"
            )
        if self.compile and (size is not None or self.gradient_checkpointing != "none"):
            raise ConfigError("--compile takes neither --micro-batch-size nor --gradient-checkpointing blocks or auto")

    def _check_teacher(self) -> None:
        if self.teacher is not None and (self.loss == "nll" or self.focal_gamma):
            flag = "--loss nll" if self.loss == "nll" else "--focal-gamma"
            raise ConfigError(f"--teacher needs a loss that takes probabilities, which {flag} does not: leave it out")

    def wants_refit(self, tokens: int) -> bool:
        """Whether to train again on all rows, given the number of tokens of the training texts.

        By default where the validation part was taken from the training file and the set is small enough to gain by it.
        """
        return self.refit == "always" or (self.refit == "auto" and self.validation is None and tokens <= REFIT_TOKENS)

    def fingerprint(self) -> dict[str, Any]:
        """What a resumed run must have in common with the interrupted one, as JSON values."""
        binding = {one.name for one in fields(self) if not one.metadata["free"]}
        if self.sharding == "fast":  # where the update depends on the parts
            binding.add("micro_batch_size")
        return {name: plain(value) for name, value in asdict(self).items() if name in binding}


def parse_options(arguments: list[str]) -> Options:
    """Read the command line; argparse itself exits with 2 on an unknown flag or a word where a number must be.

    Raises:
        ConfigError: a value breaks its rule.
    """
    parser = argparse.ArgumentParser(prog="python -m training.run", description="Train a text classifier.")
    return Options(**given_values(parser, arguments))


def given_values(parser: argparse.ArgumentParser, arguments: list[str]) -> dict[str, Any]:
    """What stands on a command line that takes every option, by field, and whatever flags the parser has already."""
    for one in fields(Options):
        add(parser, one, SHOWN.get(one.name))
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    if "train" not in given:  # the sample set has a test file of its own
        given.setdefault("test", SAMPLE / "test.csv")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _clamp(value: float, low: int, high: int) -> int:
    return max(low, min(high, round(value)))


def plain(value: Any) -> Any:
    """A value of an option as a JSON value."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
