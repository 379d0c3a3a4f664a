"""`python -m training.tune`: a search for better options than the defaults, within a time; a checkpoint comes out."""

import argparse
import sys

from nlp_app.errors import ConfigError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

import optuna

from nlp_app.folder import repair
from training.assemble import check_machine
from training.budget import Budget
from training.console import make_console
from training.interrupt import stop_request
from training.memory import out_of_memory_said
from training.options import Options, given_values
from training.output import check_output
from training.search import Search
from training.together import alone
from training.trials import Log


@out_of_memory_said()
def main() -> int:
    """Search as the command line says; gives the exit code."""
    alone("training.tune")
    options, given, most = parse(sys.argv[1:])
    budget, console = Budget.of_process(options.max_seconds), make_console()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    repair(options.output)
    check_output(options)
    check_machine(options)
    log = Log.beside(options)
    with stop_request() as stop:
        Search(options=options, given=given, most=most, budget=budget, console=console, stop=stop, log=log).run()
    return 0


def parse(arguments: list[str]) -> tuple[Options, set[str], int | None]:
    """The options of the defaults' trial, the names of those that stay as they are, and the number of trials.

    Raises:
        ConfigError: a value breaks its rule.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training.tune",
        description="Search for better options of training.run; every option that is given here stays as it is.",
    )
    parser.add_argument("--trials", type=int, metavar="TRIALS", help="at most, that of the defaults among them")
    given = given_values(parser, arguments)
    most = given.pop("trials", None)
    options = Options(**given)
    if most is not None and most < 1:
        raise ConfigError(f"--trials is {most}, but must be 1 or more")
    if options.max_seconds is None and most is None:
        raise ConfigError("a search has no end of its own: give --max-seconds, or --trials")
    if options.resume:
        raise ConfigError("--resume: no search goes on where another ended: leave it out")
    if options.teacher is not None:
        raise ConfigError("--teacher is for training.run: leave it out, and give it with the command that comes out")
    return options, set(given), most


if __name__ == "__main__":
    run_command(main)
