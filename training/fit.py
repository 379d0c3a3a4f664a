"""The two phases of training: find the number of epochs on a validation part, then train on all rows that often."""

import math
import time
from dataclasses import dataclass

import torch.nn.functional as F
from rich.console import Console

from nlp_app.errors import ConfigError, OutputError
from nlp_app.model import TextClassifier
from nlp_app.scoring import score
from training.batches import Dataset
from training.early_stopping import EarlyStopping
from training.interrupt import StopRequest
from training.learner import Learner
from training.metrics import Confusion
from training.progress import Watch
from training.state import RunState, StateStore

SELECTION, REFIT = "selection", "refit"
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
        if self.state.epoch:
            tensors = self.store.tensors("learner")
            try:
                learner.restore(tensors, self.state.learner)
            except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                reason = str(error).partition("\n")[0]
                raise OutputError(f"the state of the interrupted run is damaged ({reason}): use --overwrite") from None


def select(run: Run, learner: Learner, train: Dataset, validation: Dataset) -> None:
    """Train until the recipe's patience ends without a lower validation loss; store the best weights.

    Raises:
        Interrupted: the user asked to stop; the last whole epoch is stored.
        ConfigError: no epoch gave a score that is a number.
    """
    state, epochs = run.state, learner.recipe.epochs
    stopping = EarlyStopping(patience=learner.recipe.patience, scores=[-scores["loss"] for scores in state.scores])
    with Watch(console=run.console, phase=SELECTION, epochs=epochs, done=state.epoch) as watch:
        while not state.stopped_because:
            loss = _run_epoch(run, learner, train, watch)
            state.scores.append(validate(learner.averaged, validation))
            better = stopping.add(-state.scores[-1]["loss"])
            state.best_epoch = stopping.best
            state.stopped_because = _why_stopped(stopping, epochs)
            best = {"best": learner.averaged.state_dict()} if better else {}
            run.store.save(state, {"learner": learner.tensors(), **best})
            watch.epoch(loss, state.scores[-1])
    if not state.best_epoch:
        run.store.remove()  # nothing to go on from
        raise ConfigError("the loss was not a number in any epoch: lower --learning-rate")


def refit(run: Run, learner: Learner, train: Dataset) -> None:
    """Train from the start, on all rows, for as many epochs as the selection found best.

    Raises:
        Interrupted: the user asked to stop; the last whole epoch is stored.
    """
    state = run.state
    with Watch(console=run.console, phase=REFIT, epochs=state.best_epoch, done=state.epoch) as watch:
        while state.epoch < state.best_epoch:
            loss = _run_epoch(run, learner, train, watch)
            run.store.save(state, {"learner": learner.tensors()})
            watch.epoch(loss, None)


def validate(module: TextClassifier, data: Dataset) -> dict[str, float]:
    """Mean loss, accuracy and macro F1; all NaN where the loss is no number, so that it is never the best."""
    logits = score(module, data.encoded)
    loss = F.cross_entropy(logits, data.targets).item()
    if not math.isfinite(loss):
        return {"loss": math.nan, "accuracy": math.nan, "macro_f1": math.nan}
    confusion = Confusion.of_indices(module.config.labels, data.targets.numpy(), logits.argmax(dim=1).numpy())
    return {"loss": loss, "accuracy": confusion.accuracy, "macro_f1": confusion.macro_f1}


def _run_epoch(run: Run, learner: Learner, train: Dataset, watch: Watch) -> float:
    started = time.perf_counter()

    def on_step(step: int, steps: int, loss: float) -> None:
        run.stop.check()
        watch.step(step, steps, loss, len(train) // steps)

    loss = learner.run_epoch(train, epoch=run.state.epoch + 1, on_step=on_step)
    run.state.epoch += 1
    run.state.learner = learner.values()
    run.state.texts_seen += len(train)
    run.state.seconds += time.perf_counter() - started
    return loss


def _why_stopped(stopping: EarlyStopping, epochs: int) -> str:
    if stopping.should_stop:
        return f"no lower validation loss in the last {stopping.patience} epochs"
    if len(stopping.scores) >= epochs:
        return f"all {epochs} epochs were done"
    return ""
