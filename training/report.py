"""What a run tells at its end: metrics.json, whose keys are a contract, and the last screen."""

import contextlib
import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import tokenizers
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nlp_app import __version__
from nlp_app.compiled import fastest
from nlp_app.config import ModelConfig
from nlp_app.decision import Decision
from nlp_app.encoding import Encoded, encode
from nlp_app.model import TextClassifier
from nlp_app.scoring import familiarity, score, to_probabilities
from nlp_app.tokenizer import Tokenizer
from training.batches import Dataset, targets_of
from training.calibration import brier_score, calibration_error, top
from training.combine import PARTS, Selected
from training.data import Examples, check_kind
from training.decide import LEAST_TEXTS
from training.metrics import Confusion, LabelSets, Tally
from training.options import Options
from training.prepare import Prepared
from training.progress import shown
from training.sources import names_of
from training.state import RunState
from training.validate import tally_of

WORST_PAIRS = 5
STATUS = Path("/proc/self/status")
VALIDATED = ("loss", "accuracy", "macro_f1", "micro_f1", "calibration_error", "brier_score")


class Answers(NamedTuple):
    """What a module answered to N labelled texts."""

    tally: Tally
    scores: Tensor
    """(N,) of the best label of each."""
    right: Tensor
    """(N,) 1 where the text has it."""


def test_scores(
    module: TextClassifier, tokenizer: Tokenizer, decision: Decision, examples: Examples
) -> tuple[dict[str, Any], Answers]:
    """Measure a module on texts that nothing was chosen by; a label that it doesn't know counts as missed."""
    config = module.config
    check_kind(examples, multi_label=config.multi_label)
    started = time.perf_counter()
    logits = score(fastest(module), encode(examples.texts, tokenizer=tokenizer, config=config))
    probabilities = to_probabilities(logits, multi_label=config.multi_label)
    seconds = time.perf_counter() - started
    targets, tally = targets_of(examples, config), tally_of_examples(config, probabilities, decision, examples)
    scores = {
        "texts": len(examples),
        "accuracy": tally.accuracy,
        "macro_f1": tally.macro_f1,
        "micro_f1": tally.micro_f1,
        "intervals": {name: tally.interval(name) for name in ("accuracy", "macro_f1", "micro_f1")},
        "calibration_error": calibration_error(probabilities, targets),
        "brier_score": brier_score(probabilities, targets),
        "seconds": seconds,
        "texts_per_s": len(examples) / seconds,
    }
    best, right = top(probabilities, targets)
    if decision.min_score:
        answered = best >= decision.min_score
        scores["answered"] = answered.float().mean().item()
        scores["precision_of_answered"] = right[answered].mean().item() if answered.any() else 0
    return scores, Answers(tally, best, right)


def tally_of_examples(config: ModelConfig, probabilities: Tensor, decision: Decision, examples: Examples) -> Tally:
    """What was true and what would be answered, of labels that the model knows or does not."""
    labels, known = config.labels, sorted({*config.labels, *examples.label_counts})
    if config.multi_label:
        given = [[labels[place] for place in row.nonzero()[0]] for row in decision.given(probabilities.numpy())]
        return LabelSets.of(known, examples.label_lists, given)
    predicted = [labels[index] for index in probabilities.argmax(dim=1).tolist()]
    return Confusion.of(known, [label for (label,) in examples.label_lists], predicted)


def out_of_scope(
    prepared: Prepared, module: TextClassifier, selected: Selected, test: Examples | None, strangers: Sequence[str]
) -> dict[str, Any]:
    """The share of texts that is called out of scope, of each kind that there is.

    Args:
        prepared: the validation texts, and what encodes others.
        module: the result, which may have been trained on the validation texts.
        selected: the selection, which was not.
        test: texts that nothing was chosen by.
        strangers: texts that are out of scope.
    """

    def share_of(texts: Sequence[str]) -> float | None:
        return share(module, encode(texts, tokenizer=prepared.tokenizer, config=module.config)) if texts else None

    def share(module: TextClassifier, encoded: Sequence[Encoded]) -> float:
        return float(selected.decision.out_of_scope(familiarity(module, encoded).numpy()).mean(dtype=float))

    return {
        "min_familiarity": selected.decision.min_familiarity,
        "validation": share(selected.module, prepared.validation.encoded),
        "test": share_of(test.texts if test else ()),
        "strangers": share_of(strangers),
    }


def validation_answers(selected: Selected, data: Dataset) -> Answers:
    """What the module takes for what in the validation part."""
    config = selected.module.config
    probabilities = to_probabilities(score(selected.module, data.encoded), multi_label=config.multi_label)
    return Answers(tally_of(config, probabilities, data.targets, selected.decision), *top(probabilities, data.targets))


def metrics(
    prepared: Prepared,
    state: RunState,
    module: TextClassifier,
    selected: Selected,
    test: dict[str, Any] | None,
    scope: dict[str, Any],
    *,
    seed: int,
) -> dict[str, Any]:
    """metrics.json; later versions may add keys, none is taken away.

    The validation texts chose the epoch, the scales and the thresholds: their scores flatter, those of the test do not.
    """
    refit = state.refitted
    return {
        "train": {
            "texts": len(prepared.train) + (len(prepared.validation) if refit else 0),
            "seconds": state.seconds,
            "texts_per_s": state.texts_seen / max(state.seconds, 1e-9),
            "epochs": _whole(state.scores[-1]["epoch"]),
            "best_epoch": _whole(state.scores[state.best - 1]["epoch"]) if state.best else 0,
            "evaluations": len(state.scores),
            "steps": state.scores[-1]["step"],
            "best_step": state.best_scores["step"],
            "stopped_because": state.stopped_because,
            "refit": refit,
            "cut_short": state.cut_short,
        },
        "validation": {
            "texts": len(prepared.validation),
            **{name: selected.scores[name] for name in VALIDATED},
            "alone": selected.alone,
        },
        "teacher": {**state.teacher, "used": bool(state.teacher["used"])} if state.teacher else None,
        "test": test,
        "out_of_scope": scope,
        "start": prepared.start.told,
        "sampled": prepared.sampled,
        "model": {"parameters": sum(parameter.numel() for parameter in module.parameters())},
        "peak_memory_mb": peak_memory_mb(),
        "seed": seed,
        "versions": versions(),
    }


def _whole(epochs: float) -> float:
    """An int where it is whole, as it is without evaluations inside an epoch."""
    return round(epochs) if epochs == round(epochs) else epochs


def trained(options: Options) -> dict[str, Any]:
    """What config.json tells of the training: no clock time, so that equal runs give equal model versions."""
    files = ("train", "validation", "unlabelled", "vectors", "teacher")
    named = {name: (told := names_of(getattr(options, name))) and as_utf8(told) for name in files}
    return {"options": {**options.fingerprint(), **named}, "versions": versions()}


def as_utf8(name: str) -> str:
    """A name of a file, which on Unix may be any bytes."""
    return os.fsencode(name).decode(errors="replace")


def versions() -> dict[str, str]:
    """Of everything that the weights depend on."""
    return {
        "nlp_app": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tokenizers": tokenizers.__version__,
        "numpy": numpy.__version__,
    }


def peak_memory_mb() -> float:
    """The largest resident size that this process has had, in 10^6 bytes.

    Linux hands ru_maxrss on to the program that a process becomes: it would be the size of who started the run.
    """
    with contextlib.suppress(OSError, StopIteration):  # not Linux
        lines = STATUS.read_text(errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def print_last_screen(console: Console, metrics: dict[str, Any], tally: Tally, part: str, output: Path) -> None:
    """Scores, the worst-confused pairs, the folder, and the command to serve it."""
    several = isinstance(tally, LabelSets)
    shown_scores = {"accuracy": "exact match" if several else "accuracy", "macro_f1": "macro F1"}
    if several:
        shown_scores["micro_f1"] = "micro F1"
    table = Table("", "texts", *shown_scores.values())
    for name in ("validation", "test"):
        if metrics[name] is not None:
            row = metrics[name]
            table.add_row(name, f"{row['texts']:,}", *(_with_interval(row, score) for score in shown_scores))
        for part_name, row in metrics["validation"]["alone"].items() if name == "validation" else ():
            table.add_row(f"  {part_name}", "", *(f"{row[score]:.4f}" for score in shown_scores), style="dim")
    console.print(table)
    console.print("the validation texts also chose the epoch, the scales and the thresholds: their scores flatter")
    train = metrics["train"]
    console.print(
        f"stopped after epoch {shown(train['epochs'])}: {train['stopped_because']}; "
        f"best was epoch {shown(train['best_epoch'])}"
    )
    if "answered" in (metrics["test"] or {}):
        test = metrics["test"]
        console.print(
            f"answers {test['answered']:.1%} of the test texts, {test['precision_of_answered']:.1%} of them right"
        )
    _print_scope(console, metrics["out_of_scope"], metrics["validation"])
    if isinstance(tally, Confusion) and (pairs := tally.worst_pairs(WORST_PAIRS)):
        console.print(f"Most often confused ({part}):")
        print_pairs(console, pairs)
    pace = f"{train['seconds']:.1f} s of training, {train['texts_per_s']:,.0f} texts/s"
    console.print(f"{pace}, peak memory {metrics['peak_memory_mb']:,.0f} MB")
    console.print(
        f"\nThe model is in {output}. Serve it with:\n  python -m serving --checkpoint {shlex.quote(str(output))}"
    )


def _print_scope(console: Console, scope: dict[str, Any], validation: dict[str, Any]) -> None:
    """The shares of texts called out of scope, or why none is."""
    if not scope["min_familiarity"]:
        if scope["strangers"] is not None:
            console.print(f"no text is called out of scope: {_why_none(validation)}")
        return
    shares = [f"{scope[name]:.1%} of the {name}{'' if name == 'strangers' else ' texts'}"
              for name in ("validation", "test", "strangers") if scope[name] is not None]  # fmt: skip
    console.print(f"calls out of scope: {', '.join(shares)}")


def _why_none(validation: dict[str, Any]) -> str:
    texts = validation["texts"]
    if PARTS[1] not in validation["alone"]:
        return "that needs n-grams, which the model does not read"
    if texts < LEAST_TEXTS:
        return f"that needs {LEAST_TEXTS} validation texts or more, and there are {texts:,}"
    return "too many of the validation texts share no n-gram with the training texts"


def _with_interval(row: dict[str, Any], name: str) -> str:
    """A score, and where it is known within which it lies with 19 of 20 test sets."""
    if "intervals" not in row:
        return f"{row[name]:.4f}"
    low, high = row["intervals"][name]
    return f"{row[name]:.4f} ({low:.4f} to {high:.4f})"


def print_pairs(console: Console, pairs: Sequence[tuple[str, str, int]]) -> None:
    """A table of what was taken for what, and how often."""
    table = Table("true", "predicted", "texts")
    for true, predicted, count in pairs:
        table.add_row(true, predicted, f"{count:,}")
    console.print(table)
