"""From prepared data to a module: the branch over n-grams, the selection, a teacher's pupil, the refit on all rows."""

import math
from dataclasses import replace
from typing import Any

from rich.console import Console

from nlp_app.decision import UNREACHABLE
from nlp_app.errors import ConfigError
from nlp_app.model import TextClassifier
from training import distil
from training.assemble import new_learner
from training.branches import FOLDS, NGRAMS, TENTH, fit_in_time, linear_branch
from training.budget import Budget, Deadline
from training.combine import Selected, combine, settle
from training.console import warn
from training.fit import DISTILLATION, INTERRUPTED, REFIT, SELECTION, OutOfTime, Run, refit, select
from training.interrupt import Interrupted
from training.learner import Diverged
from training.linear import Fitted
from training.options import Options
from training.prepare import Prepared
from training.state import RunState
from training.validate import validate


def train(options: Options, prepared: Prepared, run: Run) -> tuple[TextClassifier, Selected]:
    """Both phases, or what is left of them.

    Where the user stops it, time is up, or the loss becomes infinite, the module is the best of the selection so far.

    Returns:
        The module, in eval mode on the CPU, and the selection, which has not seen the validation texts.
    """
    fitted = fit_in_time(options, prepared, run)
    if run.stop.made and run.state.stopped_because:  # a resumed run has no step left that would heed it
        run.state.stopped_because = INTERRUPTED
    if run.state.phase == REFIT:
        selected = settled(options, prepared, best_module(prepared, run), fitted, run.console)
        return trained_on_all(options, prepared, run, selected)
    selected = selection(options, prepared, run, fitted)
    wanted = options.wants_refit(prepared.train.tokens) and not run.state.diverged
    return trained_on_all(options, prepared, run, selected) if wanted else unchanged(selected)


def selection(options: Options, prepared: Prepared, run: Run, fitted: Fitted) -> Selected:
    """Find the number of steps; the model with the best of them."""
    learner = new_learner(options, prepared, prepared.train, run.console, run.stop)
    stopping = options.stopping(learner.recipe.patience)

    def so_far() -> Selected:  # by the measure of the end, but without its warnings
        return settled(options, prepared, best_module(prepared, run), fitted, Console(quiet=True))

    try:
        if run.state.phase == SELECTION:
            run.restore(learner)
            deadline = deadline_of(options, prepared, run.budget)
            select(run, learner, prepared.train, prepared.validation, stopping, deadline)
            in_time = SELECTION not in run.state.cut_short
            if run.state.teacher and in_time and distil.is_worth_it(run, so_far(), prepared.validation):
                learner = new_learner(options, prepared, prepared.train, run.console, run.stop)
        if run.state.phase == DISTILLATION:
            run.restore(learner)
            rows = distil.taught(run, prepared.train, distil.TRAIN)
            deadline = deadline_of(options, prepared, run.budget)
            select(run, learner, rows, prepared.validation, stopping, deadline)
            distil.keep_better(run, so_far())
    except Interrupted:
        name = "best"
        if run.state.phase == DISTILLATION:  # too early to compare
            run.state.take_back(SELECTION)
            name = distil.PLAIN
        run.state.stopped_because = INTERRUPTED
        if run.state.best:
            return settled(options, prepared, best_module(prepared, run, name), fitted, run.console)
        scores = validate(learner.averaged, prepared.validation)  # before the first evaluation was due
        if math.isnan(scores["loss"]):
            raise ConfigError("interrupted, and the loss was not a number so far: lower --learning-rate") from None
        run.state.scores.append({**scores, "train_loss": math.nan, "step": learner.step, "epoch": learner.epoch})
        return settled(options, prepared, learner.averaged.cpu(), fitted, run.console)
    return settled(options, prepared, best_module(prepared, run), fitted, run.console)


def trained_on_all(
    options: Options, prepared: Prepared, run: Run, selected: Selected
) -> tuple[TextClassifier, Selected]:
    """The refit of a selection; the selection itself where it cannot be brought to its end."""
    if run.state.stopped_because == INTERRUPTED:
        return unchanged(selected)
    rows = prepared.train + prepared.validation
    try:
        if run.state.phase != REFIT:
            if not deadline_of(options, prepared, run.budget).leaves_a_refit(run.state):
                raise OutOfTime
            run.state.begin(REFIT)
        learner = new_learner(options, prepared, rows, run.console, run.stop)
        run.restore(learner)
        taught = run.state.teacher.get("used")
        refit(run, learner, distil.taught(run, rows, distil.TRAIN, distil.VALIDATION) if taught else rows)
        if math.isnan(validate(learner.averaged, prepared.validation)["loss"]):
            raise Diverged("the loss was not a number when all rows were trained on: lower --learning-rate")
        read = rows.every(as_done(options, run.state).ngram_every)
        branch = linear_branch(prepared, read) if prepared.config.ngram_slots else None
        return combine(learner.averaged.cpu(), branch, selected.calibration, weights=options.quantize), selected
    except Diverged as error:
        warn(run.console, f"{error}; the model is that of the selection, which left the validation rows out")
        run.state.refitted = False
    except OutOfTime:
        warn(run.console, f"{run.budget.seconds:g} s leave no time to train on the validation rows too")
        run.state.cut_short.append(REFIT)
    except Interrupted:
        run.state.stopped_because = INTERRUPTED
    return unchanged(selected)


def deadline_of(options: Options, prepared: Prepared, budget: Budget) -> Deadline:
    """When the selection has to end."""
    return Deadline(
        budget,
        train=len(prepared.train),
        validation=len(prepared.validation),
        wants_refit=options.wants_refit(prepared.train.tokens),
    )


def unchanged(selected: Selected) -> tuple[TextClassifier, Selected]:
    """The selection as the result."""
    return selected.module, selected


def settled(options: Options, prepared: Prepared, module: TextClassifier, fitted: Fitted, console: Console) -> Selected:
    """The model of a convolution and a branch that were trained on the training part."""
    selected = settle(
        module,
        fitted.branch,
        prepared.validation,
        apart=fitted.apart,
        target_precision=options.target_precision,
        texts=len(prepared.train),
        weights=options.quantize,
    )
    if selected.decision.min_score == UNREACHABLE:
        warn(
            console,
            f"--target-precision {options.target_precision}: no score reaches it on {len(prepared.validation):,} "
            "validation texts, so the model abstains from every text: give a lower one, or more texts",
        )
    return selected


def best_module(prepared: Prepared, run: Run, name: str = "best") -> TextClassifier:
    """The convolution of the best epoch."""
    module = TextClassifier(config=prepared.config)
    module.load_state_dict(run.store.tensors(name))
    return module.eval()


def as_done(options: Options, state: RunState) -> Options:
    """The options that give the same model without a limit of time."""
    done: dict[str, Any] = {}
    if SELECTION in state.cut_short:
        done["max_steps"] = state.scores[-1]["step"]
    if REFIT in state.cut_short:
        done["refit"] = "never"
    if NGRAMS in state.cut_short:
        done["ngram_every"] = TENTH
    if FOLDS in state.cut_short:
        done["threshold_folds"] = 0
    return replace(options, **done)
