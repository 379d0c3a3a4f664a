"""The trials of a search: what each found, what is kept of it, and whether a better score is more than chance."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from nlp_app.errors import OutputError
from nlp_app.folder import write_file, writing
from nlp_app.scoring import score, to_probabilities
from training.branches import fit_linear
from training.combine import Selected
from training.fit import INTERRUPTED, Run, evaluation
from training.linear import Fitted
from training.losses import class_weights
from training.options import Options, plain
from training.prepare import Prepared, prepare
from training.report import validation_answers
from training.space import differences, options_line
from training.start import make_start
from training.state import RunState, StateStore
from training.validate import plain_losses, tally_of
from training.writable import check_file

RESAMPLINGS = 300
SIZES = ("embedding_dim", "num_filters", "kernel_sizes", "dropout")
"""Of the searched options those that stand in the module's config."""


class MemoryStore(StateStore):
    """The state of a trial, which nothing goes on from: in memory."""

    def __init__(self) -> None:
        self._tensors: dict[str, dict[str, Tensor]] = {}

    def save(self, _: RunState, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Keep copies of the best weights; the learner is there already."""
        if "best" in tensors:
            self._tensors["best"] = {name: tensor.detach().cpu().clone() for name, tensor in tensors["best"].items()}

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A set of tensors that was saved."""
        return self._tensors[name]

    def remove(self) -> None:
        """Forget them."""
        self._tensors.clear()


class Stock:
    """Data and branches, made once for the trials that share them; two of each, for they take memory."""

    def __init__(self, base: Options, check: Callable[[], None]) -> None:
        self._base, self._check = base, check
        self._read = lru_cache(maxsize=2)(lambda options: prepare(options, Console(quiet=True)))
        self._fitted = lru_cache(maxsize=2)(self._fit)

    def prepared(self, options: Options) -> Prepared:
        """What training reads."""
        data = self._read(replace(self._base, tokenizer=options.tokenizer, ngrams=options.ngrams))
        sizes: dict[str, Any] = {name: getattr(options, name) for name in SIZES}
        config = replace(data.config, **{name: size for name, size in sizes.items() if size is not None})
        if config.embedding_dim != data.config.embedding_dim:  # it is not varied where --vectors or --unlabelled stand
            start = make_start(options, config, data.tokenizer, data.train, None, None, Console(quiet=True))
            data = replace(data, start=start)
        weights = class_weights(options.class_weights, config.labels, data.train.targets)
        return replace(data, config=config, class_weights=weights)

    def fitted(self, options: Options) -> Fitted:
        """The branch over n-grams of the training part."""
        shared = {name: getattr(options, name) for name in ("tokenizer", "ngrams", "class_weights")}
        return self._fitted(replace(self._base, **shared))

    def _fit(self, options: Options) -> Fitted:
        return fit_linear(options, self.prepared(options), self._check)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A model that a trial ended with; it has not seen the validation texts."""

    options: Options
    prepared: Prepared
    run: Run
    selected: Selected

    @property
    def score(self) -> float:
        """By --select-by, the greater the better: a loss has its sign turned."""
        return evaluation({**self.selected.scores, "train_loss": 0.0}, self.options.select_by).score

    def scores_of(self, samples: list[Any]) -> np.ndarray[Any, Any]:
        """The score on each sample of the validation texts, which are rows."""
        module, targets, measure = self.selected.module, self.prepared.validation.targets, self.options.select_by
        logits = score(module, self.prepared.validation.encoded)
        if measure == "loss":
            losses = plain_losses(logits, targets).numpy()
            return np.array([-losses[rows].mean() for rows in samples])
        probabilities = to_probabilities(logits, multi_label=module.config.multi_label)
        tallies = (
            tally_of(module.config, probabilities[rows], targets[rows], self.selected.decision) for rows in samples
        )
        return np.array([getattr(tally, measure.replace("-", "_")) for tally in tallies])


def gain(before: Found, after: Found) -> tuple[float, float]:
    """By how much a model is better than another, and the standard error of that: a paired bootstrap (Efron 1979)."""
    texts = len(before.prepared.validation)
    samples = list(np.random.default_rng(0).integers(texts, size=(RESAMPLINGS, texts)))
    spread = (after.scores_of(samples) - before.scores_of(samples)).std()
    return after.score - before.score, float(spread)


@dataclass(kw_only=True)
class Record:
    """A line of tune.json."""

    options: Options
    state: str = "complete"
    score: float | None = None
    seconds: float = 0.0
    why: str = ""

    def to_json(self, base: Options) -> dict[str, Any]:
        """As JSON values: the options as far as they differ from the defaults'."""
        changed = {name: plain(value) for name, value in differences(self.options, base).items()}
        return {**vars(self), "options": changed}


@dataclass(kw_only=True)
class Log:
    """tune.json, beside the output, whose own files are those of a checkpoint; whole after every trial."""

    path: Path
    base: Options
    records: list[Record] = field(default_factory=list)

    @classmethod
    def beside(cls, options: Options) -> "Log":
        """DIR.tune.json.

        Raises:
            OutputError: it exists, and --overwrite was not given.
        """
        path = Path(f"{os.path.realpath(options.output)}.tune.json")
        if path.exists() and not options.overwrite:
            raise OutputError(f"{path} exists: name another --output, or replace both with --overwrite")
        return cls(path=path, base=options)

    def add(self, record: Record, console: Console) -> None:
        """Write a trial down and tell of it."""
        self.records.append(record)
        self.write()
        found = record.why if record.score is None else f"validation {self.base.select_by} {abs(record.score):.4f}"
        changed = options_line(differences(record.options, self.base)) or "the defaults"
        number = len(self.records) - 1
        console.print(f"trial {number}, {record.state} in {record.seconds:.1f} s: {found}; {changed}")

    def check(self) -> None:
        """Raise an OutputError where it cannot be written; one of a search before stays until there is a model."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        check_file("--output's", self.path)

    def write(self, **more: Any) -> None:
        """Write what is known."""
        trials = [{"number": number, **one.to_json(self.base)} for number, one in enumerate(self.records)]
        values = {"select_by": self.base.select_by, **more, "trials": trials}
        write_file(self.path, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())

    def end(
        self, winner: Found, why: str, command: str | None, *, gain: float, standard_error: float, console: Console
    ) -> None:
        """Write and tell how the search ended."""
        texts, measure = len(winner.prepared.validation), self.base.select_by
        low, high = validation_answers(winner.selected, winner.prepared.validation).tally.interval("accuracy")
        is_new = gain > standard_error
        self.write(command=command, ended=why, gain=gain, standard_error=standard_error, accuracy=[low, high])
        console.print(f"The search ended at trial {len(self.records) - 1}: {why}.")
        error = two_digits(standard_error)
        told = f"better by {two_digits(gain)} in validation {measure}, with a standard error of {error}"
        others = "No other options were better." if len(self.records) > 1 else "No other options were tried."
        console.print(f"The best other options were {told}." if gain else others)
        kept = "Their model is" if is_new else "The defaults' model is"
        if winner.run.state.stopped_because == INTERRUPTED:
            kept = "The defaults' model, as far as it was trained, is"
        console.print(f"{kept} in place; accuracy on {texts:,} validation texts lies between {low:.4f} and {high:.4f}.")
        if is_new:
            console.print(f"The best of {len(self.records)} scores on the same texts flatters itself: expect less.")
        if command is not None:
            console.print(f"The same model again:\n  {command}")


def two_digits(value: float) -> str:
    """Those that count, however small the value is: a gain of 0.0000 would be none."""
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")
