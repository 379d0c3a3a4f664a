"""Both losses trained side by side: how far apart their steps are, and what they score."""

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

from training.assemble import new_learner
from training.batches import Rows
from training.fit import Run, select
from training.interrupt import StopRequest
from training.learner import Learner
from training.losses import LOSSES, OUTPUT_OF
from training.options import Options
from training.prepare import Prepared, prepare
from training.state import RunState, StateStore

PRECISIONS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}
"""Of the weights; bfloat16 is autocast's, over float32 weights."""
SCORES = ("accuracy", "macro_f1", "loss")


def steps(path: Path, device: torch.device, *, count: int) -> dict[str, list[dict[str, float]]]:
    """The differences of loss, gradient and logits at each step, by precision.

    Each loss takes its own steps, those of training.run with its defaults, from the same weights on the same batches,
    so that differences may grow. The gradient's is told absolutely and relative to the gradient's norm.
    """
    with torch.random.fork_rng(devices=[]):
        prepared = prepare(Options(train=path), Console(quiet=True))
        return {name: _differences(prepared, path, name, device, count) for name in PRECISIONS}


def _differences(
    prepared: Prepared, path: Path, precision: str, device: torch.device, count: int
) -> list[dict[str, float]]:
    learners = [_learner(prepared, path, loss, precision, device) for loss in LOSSES]
    found = []
    for _ in range(count):
        (loss, gradient, logits), (other_loss, other_gradient, other_logits) = (
            _step(learner, prepared.train) for learner in learners
        )
        off = (gradient - other_gradient).abs().max().item()
        same = loss == other_loss and torch.equal(gradient, other_gradient) and torch.equal(logits, other_logits)
        found.append({
            "loss": abs(loss - other_loss), "gradient": off / max(gradient.norm().item(), 1e-300),
            "gradient_absolute": off, "logits": (logits - other_logits).abs().max().item(), "same_bits": same,
        })  # fmt: skip
    return found


def _learner(prepared: Prepared, path: Path, loss: str, precision: str, device: torch.device) -> Learner:
    options = Options(train=path, loss=loss, precision="bf16" if precision == "bfloat16" else "float32")
    ended = replace(prepared, config=replace(prepared.config, output=OUTPUT_OF[loss]))
    return Learner(
        module=ended.new_module(options.seed).to(PRECISIONS[precision]),
        recipe=options.recipe(len(prepared.train), prepared.config.num_classes),
        device=device,
        texts=len(prepared.train),
    )


def _step(learner: Learner, data: Rows) -> tuple[float, Tensor, Tensor]:
    """Loss, gradient as one vector, and logits (B, C) of the learner's next step; the tensors in float64."""
    seen: list[Tensor] = []
    hook = learner.module.output.register_forward_hook(lambda _, __, output: seen.append(output.detach().double()))
    loss = learner.advance(data, to=learner.step + 1, on_step=lambda _, __: None)
    hook.remove()
    gradients = [one.grad.double().flatten() for one in learner.module.parameters() if one.grad is not None]
    return loss, torch.cat(gradients), seen[0]


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
