"""The two phases of training: find the number of steps on a validation part, then train on all rows as long."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from torch import Tensor

from nlp_app.errors import ConfigError, OutputError
from training.batches import Dataset
from training.console import warn
from training.early_stopping import EarlyStopping, Evaluation, best
from training.interrupt import StopRequest
from training.learner import Diverged, Learner
from training.progress import Watch
from training.state import RunState, StateStore
from training.validate import validate

SELECTION, DISTILLATION, REFIT = "selection", "distillation", "refit"
INTERRUPTED = "interrupted by the user"


@dataclass(kw_only=True)
class Run:
    """What both phases need of the run: how far it is, where that is kept, and whom it talks to."""

    state: RunState
    store: StateStore
    stop: StopRequest
    console: Console

    def restore(self, learner: Learner) -> None:
        """Bring a new learner to where the phase is."""
        if self.state.step:
            tensors = self.store.tensors("learner")
            try:
                learner.restore(tensors, self.state.learner)
            except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                reason = str(error).partition("\n")[0]
                raise OutputError(f"the state of the interrupted run is damaged ({reason}): use --overwrite") from None


def select(run: Run, learner: Learner, train: Dataset, validation: Dataset, stopping: EarlyStopping) -> None:
    """Train until early stopping says so or all epochs are done; store the best weights at each improvement.

    Raises:
        Interrupted: the user asked to stop; what the last evaluation saw is stored.
        ConfigError: the loss is no number, and there is no evaluation to keep.
    """
    state, last_step = run.state, learner.recipe.epochs * learner.steps_per_epoch
    with Watch(console=run.console, phase=state.phase, epochs=learner.recipe.epochs, done=learner.epoch) as watch:
        while not state.stopped_because:
            try:
                loss = _advance(run, learner, train, watch, last_step)
            except Diverged as error:
                state.stopped_because, state.diverged = str(error), True
                break
            scores = validate(learner.averaged, validation, stopping.measure)
            learner.schedule.evaluated(scores["loss"])
            state.scores.append({**scores, "train_loss": loss, "step": learner.step, "epoch": learner.epoch})
            history = [evaluation(scores, stopping.measure) for scores in state.scores]
            better = best(history) == len(history)
            state.best = best(history)
            state.stopped_because = stopping.reason(history)
            if not state.stopped_because and learner.step >= last_step:
                state.stopped_because = f"all {learner.recipe.epochs} epochs were done"
            _save(run, learner, {"best": learner.averaged.state_dict()} if better else {})
            watch.evaluated(loss, scores, learner.epoch)
    if not state.best:
        run.store.remove()  # nothing to go on from
        raise ConfigError(f"there is no model to keep: {state.stopped_because}")
    if state.diverged:
        warn(run.console, f"{state.stopped_because}; the model is the best from before")


def refit(run: Run, learner: Learner, train: Dataset) -> None:
    """Train from the start, on all rows, for as many epochs as the selection found best.

    Raises:
        Interrupted: the user asked to stop; what was done at the last save is stored.
        Diverged: the loss is no number.
    """
    state, epochs = run.state, run.state.best_scores["epoch"]
    last_step = round(epochs * learner.steps_per_epoch)
    with Watch(console=run.console, phase=REFIT, epochs=epochs, done=learner.epoch) as watch:
        while learner.step < last_step:
            loss = _advance(run, learner, train, watch, last_step)
            if learner.step < last_step:  # what the selection saw at the same place
                learner.schedule.evaluated(state.scores[min(_evaluations(learner), len(state.scores)) - 1]["loss"])
            _save(run, learner, {})
            watch.evaluated(loss, None, learner.epoch)
    state.refitted = True


def evaluation(scores: Mapping[str, float], measure: str) -> Evaluation:
    """What early stopping reads of an evaluation's scores."""
    value = scores[measure.replace("-", "_")]
    return Evaluation(-value if measure == "loss" else value, scores["train_loss"], scores["standard_error"])


def advance_watched(learner: Learner, train: Dataset, *, to: int, watch: Watch, stop: StopRequest) -> float:
    """Train up to a step, looking at the request to stop and telling the watch at each; gives the mean loss.

    Raises:
        Interrupted: the user asked to stop.
        Diverged: the loss of a step was no finite number.
    """

    def on_step(step: int, loss: float) -> None:
        stop.check()
        watch.step(step / learner.steps_per_epoch, loss, len(train) // learner.steps_per_epoch)

    return learner.advance(train, to=to, on_step=on_step)


def _evaluations(learner: Learner) -> int:
    """How many the selection had made by this place."""
    every = learner.recipe.evaluate_every or learner.steps_per_epoch
    return -(-learner.step // every)


def _advance(run: Run, learner: Learner, train: Dataset, watch: Watch, last_step: int) -> float:
    """Train up to the next evaluation; gives the mean loss."""
    started, every = time.perf_counter(), learner.recipe.evaluate_every or learner.steps_per_epoch
    to = min(last_step, (learner.step // every + 1) * every)
    before = learner.step
    loss = advance_watched(learner, train, to=to, watch=watch, stop=run.stop)
    run.state.texts_seen += round(len(train) * (learner.step - before) / learner.steps_per_epoch)
    run.state.seconds += time.perf_counter() - started
    return loss


def _save(run: Run, learner: Learner, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    run.state.step, run.state.learner = learner.step, learner.values()
    run.store.save(run.state, {"learner": learner.tensors(), **tensors})
