"""Learning from a teacher: its probabilities become targets of the convolution, where that makes a better model.

The model is first trained without it; a teacher whose validation loss is clearly higher than that model's is not used.
Else another one is trained with the teacher, and the better of the two is kept. Both comparisons are of calibrated
losses, since among some hundred texts accuracy moves by a point of its own accord (docs/decisions.md).
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from nlp_app.scoring import score, to_probabilities
from training.batches import Dataset, Rows
from training.calibration import calibrate
from training.combine import Selected
from training.decide import decide
from training.encoder import one_hot
from training.fit import DISTILLATION, SELECTION, Run
from training.interrupt import StopRequest
from training.prepare import Prepared
from training.teacher import Teacher
from training.validate import plain_losses, scores_of

MIX = 0.5
"""Of the target is the teacher's, the rest the label's (docs/decisions.md)."""
TRAIN, VALIDATION = "train", "validation"
PLAIN = "plain"
"""The stored tensors of the model without the teacher, while the one with it is trained."""
Told = dict[str, Any]


def ask(teacher: Teacher, prepared: Prepared, console: Console, stop: StopRequest) -> tuple[Told, dict[str, Tensor]]:
    """Have all texts scored.

    Returns:
        what metrics.json tells of the teacher, and its calibrated logits (N, C) of TRAIN and VALIDATION.

    Raises:
        KeyboardInterrupt: the user asked to stop.
        DataError: it has no scores for some text.
    """

    def check() -> None:
        if stop.made:
            raise KeyboardInterrupt

    console.print(f"the teacher scores {len(prepared.train) + len(prepared.validation):,} texts")
    started = time.perf_counter()
    logits = teacher.answer(prepared, check)
    calibration = calibrate(logits[1:], prepared.validation.targets)
    train, validation = (calibration([part]) for part in logits)
    told = {**_measured(prepared, validation), "seconds": time.perf_counter() - started, "used": None}
    return told, {TRAIN: train, VALIDATION: validation}


def _measured(prepared: Prepared, logits: Tensor) -> dict[str, float]:
    """The loss and the accuracy of logits on the validation texts."""
    targets, config = prepared.validation.targets, prepared.config
    decision = decide(to_probabilities(logits, multi_label=config.multi_label), targets)
    return _scores(scores_of(logits, targets, config, decision=decision))


def is_worth_it(run: Run, plain: Selected, validation: Dataset) -> bool:
    """Whether the teacher is not clearly worse than the model without it, which is put aside then for another one."""
    told = run.state.teacher
    if told["used"] is not None:  # the interrupted run had decided it
        return False
    told["without"] = _scores(plain.scores)
    logits = run.store.tensors("teacher")[VALIDATION], score(plain.module, validation.encoded)
    teachers, own = (plain_losses(each, validation.targets) for each in logits)
    worth = not run.state.diverged and not is_positive(teachers - own)
    told["used"] = None if worth else False
    _say(run, "the teacher", told, "the model learns from it" if worth else "that is worse: it is not used")
    if worth:
        run.state.put_aside(DISTILLATION)
        run.store.save(run.state, {PLAIN: run.store.tensors("best")})
    return worth


def is_positive(gaps: Tensor) -> bool:
    """Whether the mean of (N,) is above 0 by more than its standard error."""
    return bool(gaps.mean() > gaps.std(correction=0) / len(gaps) ** 0.5)


def keep_better(run: Run, taught: Selected) -> None:
    """Decide between the model that learned from the teacher and the one that was put aside."""
    told = run.state.teacher
    if told["used"]:
        return
    told["with"] = _scores(taught.scores)
    told["used"] = bool(taught.scores["loss"] < told["without"]["loss"])
    _say(run, "with the teacher", told["with"], "that is kept" if told["used"] else "the one without it is kept")
    if not told["used"]:
        run.state.take_back(SELECTION)
        run.store.save(run.state, {"best": run.store.tensors(PLAIN)})


def taught(run: Run, rows: Rows, *parts: str) -> Dataset:
    """The rows of these parts, with targets that are the label's and the teacher's."""
    assert isinstance(rows, Dataset), "a teacher has scored texts in memory"
    answers = run.store.tensors("teacher")
    logits = torch.cat([answers[part] for part in parts])
    return replace(rows, targets=mixed(rows.targets, to_probabilities(logits, multi_label=rows.targets.ndim == 2)))


def mixed(targets: Tensor, answers: Tensor) -> Tensor:
    """(N, C) float32, MIX of it the teacher's.

    Args:
        targets: (N,) int64, or (N, C) of 0 and 1.
        answers: (N, C) probabilities.
    """
    return torch.lerp(one_hot(targets, answers.shape[1]), answers, MIX)


def _scores(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: scores[name] for name in ("loss", "accuracy")}


def _say(run: Run, who: str, scores: Mapping[str, float], outcome: str) -> None:
    without, words = run.state.teacher["without"], "validation loss {loss:.4f} and accuracy {accuracy:.4f}"
    run.console.print(f"{who}: {words.format(**scores)}; without it: {words.format(**without)}: {outcome}")
