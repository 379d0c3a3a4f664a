"""What a run tells at its end: metrics.json, whose keys are a contract, and the last screen."""

import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import tokenizers
import torch
from rich.console import Console
from rich.table import Table

from nlp_app import __version__
from nlp_app.model import TextClassifier
from nlp_app.scoring import score
from nlp_app.tokenizer import Tokenizer
from training.batches import Dataset
from training.data import Examples
from training.metrics import Confusion
from training.options import Options
from training.prepare import Prepared
from training.progress import shown
from training.state import RunState

WORST_PAIRS = 5


def test_scores(module: TextClassifier, tokenizer: Tokenizer, examples: Examples) -> tuple[dict[str, Any], Confusion]:
    """Measure a module on texts that nothing was chosen by; a label that it doesn't know counts as missed."""
    labels = module.config.labels
    started = time.perf_counter()
    logits = score(module, tokenizer.encode(examples.texts, max_length=module.config.max_length))
    predicted = [labels[index] for index in logits.argmax(dim=1).tolist()]
    seconds = time.perf_counter() - started
    known = sorted({*labels, *examples.labels})
    confusion = Confusion.of(known, examples.labels, predicted)
    scores = {
        "texts": len(examples),
        "accuracy": confusion.accuracy,
        "macro_f1": confusion.macro_f1,
        "seconds": seconds,
        "texts_per_s": len(examples) / seconds,
    }
    return scores, confusion


def validation_confusion(module: TextClassifier, data: Dataset) -> Confusion:
    """What the module takes for what in the validation part."""
    predicted = score(module, data.encoded).argmax(dim=1)
    return Confusion.of_indices(module.config.labels, data.targets.numpy(), predicted.numpy())


def metrics(
    prepared: Prepared, state: RunState, module: TextClassifier, test: dict[str, Any] | None, *, seed: int
) -> dict[str, Any]:
    """metrics.json; later versions may add keys, none is taken away."""
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
        },
        "validation": {
            "texts": len(prepared.validation),
            **{name: state.best_scores[name] for name in ("loss", "accuracy", "macro_f1")},
        },
        "test": test,
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
    files = {name: getattr(options, name) for name in ("train", "validation")}
    named = {name: path and os.fsencode(path.name).decode(errors="replace") for name, path in files.items()}
    return {"options": {**options.fingerprint(), **named}, "versions": versions()}


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
    """The largest resident size that this process has had, in 10^6 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def print_last_screen(console: Console, metrics: dict[str, Any], confusion: Confusion, part: str, output: Path) -> None:
    """Scores, the worst-confused pairs, the folder, and the command to serve it."""
    table = Table("", "texts", "accuracy", "macro F1")
    for name in ("validation", "test"):
        if metrics[name] is not None:
            row = metrics[name]
            table.add_row(name, f"{row['texts']:,}", f"{row['accuracy']:.4f}", f"{row['macro_f1']:.4f}")
    console.print(table)
    train = metrics["train"]
    console.print(
        f"stopped after epoch {shown(train['epochs'])}: {train['stopped_because']}; "
        f"best was epoch {shown(train['best_epoch'])}"
    )
    if pairs := confusion.worst_pairs(WORST_PAIRS):
        console.print(f"Most often confused ({part}):")
        print_pairs(console, pairs)
    pace = f"{train['seconds']:.1f} s of training, {train['texts_per_s']:,.0f} texts/s"
    console.print(f"{pace}, peak memory {metrics['peak_memory_mb']:,.0f} MB")
    console.print(
        f"\nThe model is in {output}. Serve it with:\n  python -m serving --checkpoint {shlex.quote(str(output))}"
    )


def print_pairs(console: Console, pairs: Sequence[tuple[str, str, int]]) -> None:
    """A table of what was taken for what, and how often."""
    table = Table("true", "predicted", "texts")
    for true, predicted, count in pairs:
        table.add_row(true, predicted, f"{count:,}")
    console.print(table)
