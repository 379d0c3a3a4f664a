"""`python -m training.run`: labelled texts in, a checkpoint out."""

import sys
from pathlib import Path
from typing import Any

from nlp_app.errors import ConfigError, DataError, OutputError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

import torch
from rich.console import Console

from nlp_app.checkpoint import save_checkpoint
from nlp_app.device import find_device
from nlp_app.folder import publish, repair
from nlp_app.model import TextClassifier
from training import distil, report
from training.assemble import check_machine, explain_sizes
from training.budget import Budget
from training.combine import Selected
from training.console import make_console
from training.data import read_strangers
from training.fit import INTERRUPTED, Run
from training.follow import follow, launch, restarted, shared_options
from training.interrupt import stop_request
from training.memory import out_of_memory_said
from training.options import Options, parse_options
from training.output import check_output, holds_finished_model, work_on
from training.phases import as_done, train
from training.prepare import TEST, Prepared, prepare, read
from training.ranks import Command, Ranks
from training.reliability import plot_reliability
from training.state import RunState, StateStore
from training.teacher import check_name, find_teacher
from training.together import agreeing, one_voice, together


@out_of_memory_said()
def main() -> int:
    """Train as the command line says; gives the exit code."""
    with together() as ranks, out_of_memory_said():
        console = make_console() if ranks.first else Console(quiet=True)
        with agreeing(ranks) as found:
            with one_voice(ranks):
                options = shared_options(parse_options(sys.argv[1:]), ranks)
            budget = Budget.of_process(options.max_seconds)
            if ranks.first:
                options = restarted(options)
                repair(options.output)
                check_output(options)
            check_machine(options)
            if options.teacher is not None and not options.resume:  # which has its answers already
                check_name(options.teacher)
            prepared = prepare(options, console)
            found.update(fingerprint_of(options, prepared, ranks))
            found["gradient_checkpointing"] = options.gradient_checkpointing  # computing again asks the others, too
        if ranks.first:
            lead(options, prepared, ranks, budget, console)
        else:
            with stop_request() as ranks.stop:
                follow(options, prepared, ranks)
    return 0


def lead(options: Options, prepared: Prepared, ranks: Ranks, budget: Budget, console: Console) -> None:
    """Train, alone or with other processes that follow, and leave a checkpoint."""
    explain_sizes(options, prepared, console)
    with work_on(options) as work, stop_request() as stop:
        ranks.stop, store = stop, StateStore(work=work)
        state = first_state(options, prepared, ranks, store, console)
        run = Run(state=state, store=store, stop=stop, console=console, budget=budget, ranks=ranks)
        module, selected = train(options, prepared, run)
        ranks.tell(Command.END)
        finish(options, prepared, run, module, selected, work)


def fingerprint_of(options: Options, prepared: Prepared, ranks: Ranks) -> dict[str, Any]:
    """What the processes of a run have in common, and a resumed run with the interrupted one."""
    # Other libraries or another number of threads add in another order: the weights would not be the unbroken run's.
    machine = {"versions": report.versions(), "threads": torch.get_num_threads(), "processes": ranks.size}
    return options.fingerprint() | machine | {"data": prepared.digest} | prepared.start.digests


def first_state(options: Options, prepared: Prepared, ranks: Ranks, store: StateStore, console: Console) -> RunState:
    """Where to begin: at the start, a teacher's answers being stored, or with --resume where the interrupted run was.

    Raises:
        ConfigError: the interrupted run had other options, data, libraries or threads.
    """
    device, named = find_device(options.device), options.teacher
    teacher = None if named is None else find_teacher(Path(named), prepared.config, device)
    fingerprint = fingerprint_of(options, prepared, ranks) | {"teacher": teacher and teacher.digest}
    state = store.load() if options.resume else None
    if state is None:
        state = RunState(fingerprint=fingerprint, launch=launch())
        if teacher is None:
            store.save(state, {})
        else:
            state.teacher, answers = distil.ask(teacher, prepared, console, ranks.stop)
            store.save(state, {"teacher": answers})
    for name, value in fingerprint.items():
        if state.fingerprint.get(name) != value:
            was = f"was {state.fingerprint.get(name)!r} in the interrupted run and is {value!r} now"
            raise ConfigError(f"--resume: {name} {was}: give the same again, or start over with --overwrite")
    return state


def finish(
    options: Options, prepared: Prepared, run: Run, module: TextClassifier, selected: Selected, work: Path
) -> None:
    """Measure, save, publish, tell.

    Raises:
        DataError: a file that is read last cannot be used, or the plot cannot be written; the checkpoint is published
            all the same.
        KeyboardInterrupt: the user stopped a run that was to replace a whole model, which therefore stays.
    """
    interrupted = run.state.stopped_because == INTERRUPTED
    if interrupted and holds_finished_model(options.output):
        raise KeyboardInterrupt(
            f"interrupted: {options.output} still holds the model that was there; "
            "go on with --resume in place of --overwrite"
        )
    part, answers = "validation", report.validation_answers(selected, prepared.validation)
    test, examples, strangers = None, None, []
    failures = []
    try:
        if options.test is not None and not interrupted:
            examples = read(options.test, options, TEST)
            test, answers = report.test_scores(module, prepared.tokenizer, selected.decision, examples)
            part = "test"
    except DataError as error:
        failures.append(f"but not tested: {error}")
    try:
        strangers = read_strangers(options.out_of_scope, options.text_columns, options.encoding)
    except DataError as error:
        failures.append(f"but not tried on the texts out of scope: {error}")
    scope = report.out_of_scope(prepared, module, selected, examples, strangers)
    metrics = report.metrics(prepared, run.state, module, selected, test, scope, seed=options.seed)
    save_checkpoint(
        work,
        module=module,
        tokenizer=prepared.tokenizer,
        decision=selected.decision,
        trained=report.trained(as_done(options, run.state)),
        metrics=metrics,
        weights=options.quantize,
    )
    publish(options.output, keep_resume=interrupted)
    report.print_last_screen(run.console, metrics, answers.tally, part, options.output)
    if options.reliability_plot is not None:
        try:
            plot_reliability(options.reliability_plot, answers.scores, answers.right, title=part)
        except OutputError as error:
            failures.append(f"but not drawn: {error}")
    if failures:
        raise DataError(f"the model was saved in {options.output}, {'; '.join(failures)}")


if __name__ == "__main__":
    run_command(main)
