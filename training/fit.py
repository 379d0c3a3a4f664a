"""The two phases of training: find the number of steps on a validation part, then train on all rows as long."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from torch import Tensor

from nlp_app.errors import ConfigError, OutputError
from training.batches import Dataset, Rows
from training.budget import SAVING_S, Budget, Deadline
from training.console import warn
from training.early_stopping import EarlyStopping, Evaluation, best
from training.interrupt import StopRequest
from training.joint import join
from training.learner import Diverged, Learner
from training.progress import Watch
from training.ranks import Command, Ranks
from training.state import RunState, StateStore
from training.validate import validate

SELECTION, DISTILLATION, REFIT = "selection", "distillation", "refit"
INTERRUPTED = "interrupted by the user"


class OutOfTime(Exception):
    """The refit takes longer than was foreseen."""


@dataclass(kw_only=True)
class Run:
    """What both phases need of the run: how far it is, where that is kept, its time, and whom it talks to."""

    state: RunState
    store: StateStore
    stop: StopRequest
    console: Console
    budget: Budget = field(default_factory=Budget)
    ranks: Ranks = field(default_factory=Ranks)
    judge: Callable[[Sequence[Evaluation]], str] = lambda _: ""
    """What else may end the selection after an evaluation, and why: empty while it goes on."""

    def restore(self, learner: Learner) -> None:
        """Bring a new learner to where the phase is, and those of the other processes."""
        if self.state.step:
            tensors = self.store.tensors("learner")
            try:
                learner.restore(tensors, self.state.learner)
            except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                reason = str(error).partition("\n")[0]
                raise OutputError(f"the state of the interrupted run is damaged ({reason}): use --overwrite") from None
        self.ranks.tell(Command.BEGIN_ALL if self.state.phase == REFIT else Command.BEGIN)
        join(learner, self.ranks)


def select(
    run: Run,
    learner: Learner,
    train: Rows,
    validation: Dataset,
    stopping: EarlyStopping,
    deadline: Deadline | None = None,
) -> None:
    """Train until early stopping says so, all epochs are done or time is up; store the best weights as they come.

    Raises:
        Interrupted: the user asked to stop; what the last evaluation saw is stored.
        ConfigError: the loss is no number, and there is no evaluation to keep.
    """
    state, epochs = run.state, learner.recipe.epochs
    last_step = min(epochs * learner.steps_per_epoch, learner.recipe.max_steps or 2**62)
    up = _time_is_up(run, learner, train, deadline)
    with Watch(console=run.console, phase=state.phase, epochs=epochs, done=learner.epoch) as watch:
        while not state.stopped_because:
            try:
                loss = _advance(run, learner, train, watch, last_step, up)
            except Diverged as error:
                state.stopped_because, state.diverged = str(error), True
                break
            with run.budget.timed("evaluation"):
                scores = validate(learner.averaged, validation, stopping.measure)
            learner.evaluated(scores["loss"])
            state.scores.append({**scores, "train_loss": loss, "step": learner.step, "epoch": learner.epoch})
            history = [evaluation(scores, stopping.measure) for scores in state.scores]
            better = best(history) == len(history)
            state.best = best(history)
            state.stopped_because = stopping.reason(history) or run.judge(history)
            if not state.stopped_because and learner.step >= last_step:
                state.stopped_because = f"all {epochs} epochs were done" if learner.epoch >= epochs else "--max-steps"
            if deadline is not None:
                deadline.evaluated(state)
            if not state.stopped_because and up():
                state.stopped_because = f"{run.budget.seconds:g} s were up, of at most {epochs} epochs"
                state.cut_short.append(SELECTION)
            _save(run, learner, {"best": learner.averaged.state_dict()} if better else {})
            watch.evaluated(loss, scores, learner.epoch)
    if not state.best:
        run.store.remove()  # nothing to go on from
        raise ConfigError(f"there is no model to keep: {state.stopped_because}")
    if state.diverged:
        warn(run.console, f"{state.stopped_because}; the model is the best from before")


def refit(run: Run, learner: Learner, train: Rows) -> None:
    """Train from the start, on all rows, for as many epochs as the selection found best.

    Raises:
        Interrupted: the user asked to stop; what was done at the last save is stored.
        Diverged: the loss is no number.
        OutOfTime: it would end too late.
    """

    def up() -> bool:
        return run.budget.left() < SAVING_S + run.budget.took.get("ngrams", 0.0)

    state, epochs = run.state, run.state.best_scores["epoch"]
    last_step = round(epochs * learner.steps_per_epoch)
    with Watch(console=run.console, phase=REFIT, epochs=epochs, done=learner.epoch) as watch:
        while learner.step < last_step:
            loss = _advance(run, learner, train, watch, last_step, up)
            if up() and learner.step < last_step:
                raise OutOfTime
            if learner.step < last_step:  # what the selection saw at the same place
                learner.evaluated(state.scores[min(_evaluations(learner), len(state.scores)) - 1]["loss"])
            _save(run, learner, {})
            watch.evaluated(loss, None, learner.epoch)
    state.refitted = True


def evaluation(scores: Mapping[str, float], measure: str) -> Evaluation:
    """What early stopping reads of an evaluation's scores."""
    value = scores[measure.replace("-", "_")]
    return Evaluation(-value if measure == "loss" else value, scores["train_loss"], scores["standard_error"])


def advance_watched(
    learner: Learner, train: Rows, *, to: int, watch: Watch, stop: StopRequest, up: Callable[[], bool] = bool
) -> float:
    """Train up to a step, looking at the request to stop and telling the watch at each; gives the mean loss.

    Where time is up it ends earlier, after one step at least.

    Raises:
        Interrupted: the user asked to stop.
        Diverged: the loss of a step was no finite number.
    """
    mean = 0.0

    def on_step(step: int, loss: float) -> None:
        nonlocal mean
        mean = loss
        stop.check()
        watch.step(step / learner.steps_per_epoch, loss, len(train) // learner.steps_per_epoch)
        if step < to and up():
            raise OutOfTime

    try:
        return learner.advance(train, to=to, on_step=on_step)
    except OutOfTime:
        return mean


def _evaluations(learner: Learner) -> int:
    """How many the selection had made by this place."""
    every = learner.recipe.evaluate_every or learner.steps_per_epoch
    return -(-learner.step // every)


def _time_is_up(run: Run, learner: Learner, train: Rows, deadline: Deadline | None) -> Callable[[], bool]:
    """Whether the selection has to end, judged by the pace since now."""
    began, first = run.budget.now(), learner.step
    texts_a_step = len(train) / learner.steps_per_epoch

    def up() -> bool:
        texts_per_s = (learner.step - first) * texts_a_step / max(run.budget.now() - began, 1e-9)
        return deadline is not None and deadline.is_up(texts_per_s)

    return up


def _advance(run: Run, learner: Learner, train: Rows, watch: Watch, last_step: int, up: Callable[[], bool]) -> float:
    """Train up to the next evaluation, or until time is up; gives the mean loss."""
    started, every = run.budget.now(), learner.recipe.evaluate_every or learner.steps_per_epoch
    to = min(last_step, (learner.step // every + 1) * every)
    before = learner.step
    loss = advance_watched(learner, train, to=to, watch=watch, stop=run.stop, up=up)
    run.state.texts_seen += round(len(train) * (learner.step - before) / learner.steps_per_epoch)
    run.state.seconds += run.budget.now() - started
    return loss


def _save(run: Run, learner: Learner, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    run.state.step, run.state.learner = learner.step, learner.values()
    run.store.save(run.state, {"learner": learner.tensors(), **tensors})
