"""What the other ranks do while rank 0 trains: the same steps, from the same weights, as long as it says."""

import os
import socket
from dataclasses import replace

import torch
from rich.console import Console

from nlp_app.device import find_device
from nlp_app.errors import EXIT_CODE, ConfigError
from nlp_app.folder import work_folder
from training.assemble import new_learner
from training.batches import Rows
from training.joint import Told, join
from training.learner import Diverged, Learner
from training.options import Options
from training.prepare import Prepared
from training.ranks import Command, Ranks
from training.sources import PIPE, words_of
from training.state import StateStore

FOREVER = 2**62
"""Steps: rank 0 says when they end."""


def shared_options(options: Options, ranks: Ranks) -> Options:
    """The options for one of several processes: each has a GPU of its own.

    Raises:
        ConfigError: an option is for a single process.
    """
    if not ranks.several:
        return options
    for flag, given in {
        "--compile": options.compile,
        "--teacher": options.teacher is not None,
        "--micro-batch-size": options.micro_batch_size is not None,
        "--gradient-checkpointing auto": options.gradient_checkpointing == "auto",
        f"--device {options.device}": ":" in options.device,
    }.items():
        if given:
            raise ConfigError(f"{flag} is for one process, but torchrun started {ranks.size}: leave it out")
    for flag, words in (("--train", options.train), ("--validation", options.validation), ("--test", options.test)):
        if PIPE in words_of(words):
            raise ConfigError(f"{flag} {PIPE}: {ranks.size} processes cannot read one standard input: name a file")
    if options.batch_size < ranks.size:
        raise ConfigError(
            f"--batch-size is {options.batch_size}, but each of the {ranks.size} processes needs a text of each batch: "
            "give a larger one, or start fewer"
        )
    if options.device in ("auto", "cuda") and torch.cuda.is_available():
        options = replace(options, device=f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(find_device(options.device))
    return options


def follow(options: Options, prepared: Prepared, ranks: Ranks) -> None:
    """Take rank 0's steps along, through all phases.

    Raises:
        SystemExit: rank 0 ended with an error, which it says.
    """
    command, _ = ranks.hear()
    while command in (Command.BEGIN, Command.BEGIN_ALL):
        rows = prepared.train if command == Command.BEGIN else prepared.train + prepared.validation
        learner = new_learner(options, prepared, rows, Console(quiet=True))
        join(learner, ranks)
        command = _steps(learner, rows, ranks)
    if command == Command.FAIL:
        raise SystemExit(EXIT_CODE)


def _steps(learner: Learner, rows: Rows, ranks: Ranks) -> Command:
    """Until rank 0 tells something else, which is given back."""
    try:
        learner.advance(rows, to=FOREVER, on_step=lambda *_: None)
    except Told as told:
        return told.command
    except Diverged:  # rank 0 knows
        command, _ = ranks.hear()
        return command
    raise AssertionError


def launch() -> str:
    """The torchrun that started this process, also as a restarted one; empty where there is none."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ""
    name = os.environ["TORCHELASTIC_RUN_ID"]
    return f"{socket.gethostname()}:{os.getppid()}" if name == "none" else name


def restarted(options: Options) -> Options:
    """With --resume where torchrun started the processes again and they had saved a state, else as they are."""
    if options.resume or not int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")):
        return options
    state = StateStore(work=work_folder(options.output)).load()
    return replace(options, resume=True) if state is not None and state.launch == launch() else options
