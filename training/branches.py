"""The branch over n-grams: fitted to the training part, and to folds of it for the thresholds of several labels."""

from collections.abc import Callable

from nlp_app.model import NgramBranch
from training.batches import Dataset
from training.console import warn
from training.fit import Run
from training.interrupt import Interrupted
from training.linear import Fitted, Labelled, fit_branch, score_apart
from training.options import Options
from training.prepare import Prepared

NGRAMS, TENTH, BRANCH_SHARE = "ngrams", 10, 0.7
"""The branch may take so much of the time that is left: with few texts it is the better part of the model."""
FEW_TEXTS = 100
"""In a tenth: with fewer the whole takes no time."""
FOLDS, FOLDS_SHARE = "folds", 0.3
"""The folds may take so much of the time that is left after the branch."""
MOST_TO_FOLD = 20_000
"""Training texts; of more, the validation part has many itself."""


def fit_in_time(options: Options, prepared: Prepared, run: Run) -> Fitted:
    """What fit_linear gives, less what the run has no time for: then a tenth of the texts is read, or no fold."""
    state, budget = run.state, run.budget
    state.cut_short = [name for name in state.cut_short if name not in (NGRAMS, FOLDS)]  # of the sitting before
    if not prepared.config.ngram_slots:
        return Fitted()
    tenth = prepared.train.every(TENTH) if budget.limited and options.ngram_every == 1 else None
    if tenth is not None and len(tenth) >= FEW_TEXTS and tenth.targets.min() < tenth.targets.max():
        with budget.timed(NGRAMS):
            branch = linear_branch(prepared, tenth)
        if TENTH * budget.took[NGRAMS] > BRANCH_SHARE * budget.left():
            warn(run.console, f"{budget.seconds:g} s leave time for the n-grams of every {TENTH}th text only")
            state.cut_short += [NGRAMS, FOLDS] if prepared.config.multi_label else [NGRAMS]
            return Fitted(branch=branch)
    rows = prepared.train.every(options.ngram_every)
    with budget.timed(NGRAMS):
        branch = linear_branch(prepared, rows)
    if wants_folds(options, rows) and options.threshold_folds * budget.took[NGRAMS] > FOLDS_SHARE * budget.left():
        warn(run.console, f"{budget.seconds:g} s leave no time to find thresholds by folds of the training texts")
        state.cut_short.append(FOLDS)
        return Fitted(branch=branch)
    return Fitted(branch=branch, apart=score_folds(options, prepared, rows, run.stop.check))


def fit_linear(options: Options, prepared: Prepared, check: Callable[[], None]) -> Fitted:
    """The branch of the training part, and what the folds say.

    Args:
        options: of the run.
        prepared: its data.
        check: raises Interrupted where the user asked to stop; then there are no folds.
    """
    if not prepared.config.ngram_slots:
        return Fitted()
    rows = prepared.train.every(options.ngram_every)
    return Fitted(branch=linear_branch(prepared, rows), apart=score_folds(options, prepared, rows, check))


def linear_branch(prepared: Prepared, rows: Dataset) -> NgramBranch:
    """The branch over n-grams, fitted to rows."""
    return fit_branch(rows, prepared.config, class_weights=prepared.class_weights)


def wants_folds(options: Options, rows: Dataset) -> bool:
    """Whether the thresholds are found by folds too: those of several labels, of which one may be in few texts."""
    return rows.targets.ndim == 2 and 0 < options.threshold_folds <= len(rows) <= MOST_TO_FOLD


def score_folds(options: Options, prepared: Prepared, rows: Dataset, check: Callable[[], None]) -> Labelled | None:
    """What each fold's labels are by the others; None where that is not wanted, or the user asks to stop."""
    if not wants_folds(options, rows):
        return None
    folds, weights = options.threshold_folds, prepared.class_weights
    try:
        return score_apart(rows, prepared.config, folds=folds, seed=options.seed, class_weights=weights, check=check)
    except Interrupted:  # who called heeds it
        return None
