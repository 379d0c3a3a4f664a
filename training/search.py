"""The search of training.tune: the defaults first, whose model is in place before anything else is tried.

Whatever comes then is scored by the validation part of the same split. A tree-structured Parzen estimator (Bergstra et
al. 2011) proposes it, and a trial that falls behind three quarters of the others is ended early.
"""

import gc
from collections.abc import Sequence, Set
from dataclasses import replace

import optuna
from optuna.trial import Trial, TrialState
from rich.console import Console

from nlp_app.errors import NlpAppError
from training.assemble import explain_sizes
from training.budget import SAVING_S, Budget
from training.early_stopping import Evaluation
from training.fit import INTERRUPTED, REFIT, Run
from training.interrupt import StopRequest
from training.memory import out_of_memory_said
from training.options import Options
from training.output import work_on
from training.phases import as_done, deadline_of, selection, train, trained_on_all
from training.prepare import Prepared, prepare
from training.run import finish
from training.space import command_line, defaults, neighbours, searched, suggest
from training.state import RunState
from training.trials import Found, Log, MemoryStore, Record, Stock, gain

PRUNED = "worse than three quarters of the trials before"
PRUNED_BELOW = 75.0
"""Percent of them. The score on the way is the convolution's alone: by the median 25 of 30 trials on trec6 were ended,
and three of these, as whole models, had a better score than the defaults."""
FRUITLESS = 20
"""Trials in a row that repeat another or fail: then there is nothing left to try."""
NEAR = 8
"""Trials with two options changed before the estimator is asked, which at first proposes all of them at random."""
WORTH = 0.5
"""Of the defaults' seconds: in less a trial would end too early to be better."""


class Search:
    """The trials so far, and the best of them."""

    def __init__(
        self,
        *,
        options: Options,
        given: Set[str],
        most: int | None,
        budget: Budget,
        console: Console,
        stop: StopRequest,
        log: Log,
    ) -> None:
        """A search at its start.

        Args:
            options: of the defaults' trial.
            given: the names of those that stay as they are.
            most: trials, at most.
            budget: for all of it.
            console: told of each trial.
            stop: heeded at each step.
            log: written after each trial.
        """
        self._options, self._most, self._budget, self._console, self._stop = options, most, budget, console, stop
        self._space, self._stock, self._log = searched(options, given), Stock(options, stop.check), log
        self._reserve, self._fruitless = SAVING_S, 0
        sampler = optuna.samplers.TPESampler(seed=options.seed, n_startup_trials=NEAR)
        pruner = optuna.pruners.PercentilePruner(PRUNED_BELOW, n_startup_trials=3, n_warmup_steps=2)
        self._study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)

    def run(self) -> None:
        """The defaults, then what else there is time for, then the better of both.

        Raises:
            NlpAppError: the defaults cannot be trained.
        """
        prepared = prepare(self._options, self._console)
        self._log.check()
        try:
            self._base = self._defaults(prepared)
        except KeyboardInterrupt as interrupt:
            if not interrupt.args:  # the second Ctrl-C: whatever there is
                raise
            kept = f"interrupted: {self._options.output} still holds the model that was there"
            raise KeyboardInterrupt(kept) from None
        while not (end := self._ended()):
            self._next()
        self._finish(end)

    def _defaults(self, prepared: Prepared) -> Found:
        """Do what training.run does."""
        options = self._options
        explain_sizes(options, prepared, self._console)
        recipe = options.recipe(len(prepared.train), prepared.config.num_classes)
        self._rate = recipe.learning_rate
        start = defaults(options, self._space)
        for places in (start, *neighbours(self._space, start, seed=options.seed, count=NEAR)):
            self._study.enqueue_trial(places)
        trial = self._study.ask()
        suggest(trial, options, self._space, self._rate)
        run = self._new_run(trial, self._budget, self._console)
        with work_on(options) as work:
            module, selected = train(options, prepared, run)
            finish(options, prepared, run, module, selected, work)
        found = Found(options=as_done(options, run.state), prepared=prepared, run=run, selected=selected)
        self._best = found
        self._tell(trial, found, Record(options=options, seconds=run.state.seconds))
        return found

    def _next(self) -> None:
        """One trial; whatever fails in it is written down, and the search goes on."""
        trial, begun, found = self._study.ask(), self._budget.now(), None
        record = Record(options=self._options)
        try:
            record.options = suggest(trial, self._options, self._space, self._rate)
            known = next((one for one in self._log.records if one.options == record.options), None)
            if known is not None:
                record.state, record.score = "repeated", known.score
            else:
                with out_of_memory_said():
                    found = self._attempt(trial, record.options)
        except NlpAppError as error:
            record.state, record.why = "failed", str(error)
            gc.collect()
        record.seconds = self._budget.now() - begun
        self._tell(trial, found, record)

    def _attempt(self, trial: Trial, options: Options) -> Found:
        prepared = self._stock.prepared(options)
        run = self._new_run(trial, self._budget.without(self._reserve), Console(quiet=True))
        selected = selection(replace(options, refit="never"), prepared, run, self._stock.fitted(options))
        return Found(options=as_done(options, run.state), prepared=prepared, run=run, selected=selected)

    def _new_run(self, trial: Trial, budget: Budget, console: Console) -> Run:
        def judge(history: Sequence[Evaluation]) -> str:
            trial.report(history[-1].score, len(history))
            return PRUNED if trial.should_prune() else ""

        state = RunState(fingerprint={})
        return Run(state=state, store=MemoryStore(), stop=self._stop, console=console, budget=budget, judge=judge)

    def _tell(self, trial: Trial, found: Found | None, record: Record) -> None:
        """Write a trial down, tell the estimator, and keep its model where it is the best."""
        if found is not None:
            state = found.run.state
            record.score, record.why = found.score, state.stopped_because
            ends = {PRUNED: "pruned", INTERRUPTED: "interrupted"}
            record.state = ends.get(state.stopped_because, "cut short" if state.cut_short else "complete")
            if found.options.wants_refit(found.prepared.train.tokens):
                cost = deadline_of(found.options, found.prepared, found.run.budget).refit_seconds(state)
                self._reserve = max(self._reserve, SAVING_S + cost)
            if record.state in ("complete", "cut short") and record.score > self._best.score:
                self._best = found
        ended = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL, "interrupted": TrialState.FAIL}
        state_told = ended.get(record.state, TrialState.COMPLETE if record.score is not None else TrialState.FAIL)
        self._study.tell(trial, record.score if state_told == TrialState.COMPLETE else None, state=state_told)
        self._fruitless = self._fruitless + 1 if found is None else 0
        self._log.add(record, self._console)

    def _ended(self) -> str:
        """Why to end, as part of a sentence; empty while there is more to try."""
        state = self._base.run.state
        if self._stop.made:
            return "you stopped it"
        if self._most is not None and len(self._log.records) >= self._most:
            return f"{self._most} trials were done"
        if self._fruitless >= FRUITLESS:
            return "nothing is left to try"
        if state.cut_short or self._budget.left() < self._reserve + WORTH * state.seconds:
            return f"{self._budget.seconds:g} s were up"
        return ""

    def _finish(self, end: str) -> None:
        """Put the winner in place and tell how to train it again."""
        better, error = gain(self._base, self._best) if self._best is not self._base else (0.0, 0.0)
        winner, options = self._base, self._base.options
        if better > error:
            winner = self._best
            options = self._publish(winner)
        command = None if winner.run.state.stopped_because == INTERRUPTED else command_line(options)
        self._log.end(winner, end, command, gain=better, standard_error=error, console=self._console)

    def _publish(self, found: Found) -> Options:
        """Train on all rows where that is wanted and there is time, and replace the defaults' model.

        Returns:
            The options that give the same model.
        """
        state, why, module, selected = (
            found.run.state,
            found.run.state.stopped_because,
            found.selected.module,
            found.selected,
        )
        if found.options.wants_refit(found.prepared.train.tokens) and not state.diverged:
            run = replace(found.run, budget=self._budget, console=self._console)
            if not self._stop.made:
                module, selected = trained_on_all(found.options, found.prepared, run, selected)
            if self._stop.made and not state.refitted:
                state.stopped_because, state.cut_short = why, [*state.cut_short, REFIT]
        with work_on(replace(self._options, overwrite=True)) as work:
            run = replace(found.run, console=self._console)
            finish(found.options, found.prepared, run, module, selected, work)
        return as_done(found.options, state)
