"""Both losses trained side by side: how far apart their steps are, and what they score."""

import copy
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from nlp_app.model import TextClassifier
from training.assemble import new_learner
from training.batches import epoch_batches
from training.fit import Run, select
from training.interrupt import StopRequest
from training.losses import LOSSES, OUTPUT_OF, Loss
from training.options import Options
from training.prepare import prepare
from training.state import RunState, StateStore
from training.step import drop_tokens, seed_generator

PRECISIONS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}
"""Of the weights; bfloat16 is autocast's, over float32 weights."""
SCORES = ("accuracy", "macro_f1", "loss")


def steps(path: Path, device: torch.device, *, count: int) -> dict[str, list[dict[str, float]]]:
    """The largest difference of loss, gradient and logits at each step, by precision.

    Each loss takes its own steps of AdamW from the same weights on the same batches, so that differences may grow. The
    gradient's is relative to its largest entry, the others are absolute.
    """
    with torch.random.fork_rng(devices=[]):
        options = Options(train=path)
        prepared = prepare(options, Console(quiet=True))
        lengths = [len(text.input_ids) for text in prepared.train.encoded]
        batches = [
            prepared.train.batch(rows)
            for epoch in range(1, 2 + count * options.batch_size // len(prepared.train))
            for rows in epoch_batches(lengths, batch_size=options.batch_size, seed=0, epoch=epoch)
        ][:count]
        start = prepared.new_module(0)
        return {name: _differences(start, batches, name, device) for name in PRECISIONS}


def _differences(
    start: TextClassifier, batches: list[tuple[Tensor, Tensor]], precision: str, device: torch.device
) -> list[dict[str, float]]:
    sides = []
    for name in LOSSES:
        module = copy.deepcopy(start).to(device, PRECISIONS[precision]).train()
        module.config = replace(module.config, output=OUTPUT_OF[name])
        sides.append((module, torch.optim.AdamW(module.parameters(), lr=1e-3), Loss(name=name)))
    found = []
    for number, (input_ids, targets) in enumerate(batches):
        both = [_step(*side, input_ids.to(device), targets.to(device), number, precision) for side in sides]
        found.append({key: _furthest(both[0][key], both[1][key], key) for key in ("loss", "gradient", "logits")})
    return found


def _step(
    module: TextClassifier, optimizer: torch.optim.Optimizer, loss: Loss, input_ids: Tensor, targets: Tensor,
    number: int, precision: str,
) -> dict[str, list[Tensor]]:  # fmt: skip
    seed_generator(number, input_ids.device)
    input_ids = drop_tokens(input_ids, 0.1)
    optimizer.zero_grad()
    logits: list[Tensor] = []
    hook = module.output.register_forward_hook(lambda _, __, output: logits.append(output.detach()))
    with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        value = loss(module(input_ids), targets)
    hook.remove()
    value.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
    optimizer.step()
    return {"loss": [value.detach()], "gradient": gradients, "logits": logits}


def _furthest(one: list[Tensor], other: list[Tensor], key: str) -> float:
    distances = [(a.double() - b.double()).abs().max().item() for a, b in zip(one, other, strict=True)]
    largest = max(a.double().abs().max().item() for a in one) if key == "gradient" else 1.0
    return max(distances) / max(largest, 1e-300)


def scores(
    files: Mapping[str, Path], device: torch.device, *, seeds: int, epochs: int | None, console: Console
) -> list[dict[str, Any]]:
    """Validation scores of both losses on each set, over the seeds, and whether the weights are the same bits."""
    rows = []
    for name, path in files.items():
        runs: dict[str, list[dict[str, float]]] = {loss: [] for loss in LOSSES}
        equal = 0
        for seed in range(seeds):
            states = []
            for loss in LOSSES:
                options = Options(train=path, seed=seed, loss=loss, epochs=epochs, refit="never", device=str(device))
                found, state = selected(options)
                runs[loss].append(found)
                states.append(state)
            equal += all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
            told = ", ".join(f"{loss} {runs[loss][-1]['accuracy']:.4f}" for loss in LOSSES)
            console.print(f"{name}, seed {seed}: validation accuracy {told}")
        rows.append({"set": name, "bit_equal": equal, "seeds": seeds, "runs": runs, **_summary(runs)})
    return rows


def selected(options: Options) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The validation scores and the weights that training.run would choose."""
    quiet = Console(quiet=True)
    prepared = prepare(options, quiet)
    learner = new_learner(options, prepared, prepared.train, quiet)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = StateStore(work=folder)
        run = Run(state=RunState(fingerprint={}), store=store, stop=StopRequest(), console=quiet)
        select(run, learner, prepared.train, prepared.validation, options.stopping(learner.recipe.patience))
        found = {name: run.state.best_scores[name] for name in SCORES}
        return {**found, "seconds": run.state.seconds}, store.tensors("best")


def _summary(runs: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    one, other = (runs[loss] for loss in LOSSES)
    summary: dict[str, Any] = {"mean": {}, "spread": {}, "paired": {}}
    for name in SCORES:
        summary["mean"][name] = {loss: mean(run[name] for run in runs[loss]) for loss in LOSSES}
        summary["spread"][name] = {
            loss: stdev(run[name] for run in runs[loss]) if len(runs[loss]) > 1 else 0.0 for loss in LOSSES
        }
        summary["paired"][name] = mean(b[name] - a[name] for a, b in zip(one, other, strict=True))
    return summary
