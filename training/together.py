"""How the processes of a run meet and part: joined, agreed on what they do, and ended together."""

import contextlib
import io
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nlp_app.errors import EXIT_CODE, ConfigError, NlpAppError
from training.ranks import Command, Ranks

PATIENCE = timedelta(days=7)
"""For another process, which may fit n-grams meanwhile; one that dies is noticed at once all the same. gloo counts
milliseconds in 32 bits: with more than 24 days it gives up the first connection that is refused."""
SECONDS_TO_BE_ENDED = 15.0
"""By torchrun, which then names the process that died first, and not one that followed it."""
TRIES, SECONDS_BETWEEN_TRIES = 20, 0.05
"""Of finding out who is gone."""
SIGNS = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
"""What a RuntimeError says where another process is gone."""


def alone(command: str) -> None:
    """Raise a ConfigError where torchrun started several processes of a command that is for one."""
    if (size := _size()) > 1:
        raise ConfigError(f"{command} is for one process, but torchrun started {size}: start it without torchrun")


@contextmanager
def together() -> Iterator[Ranks]:
    """Join the processes that torchrun started; without torchrun, or where it started one, this one is alone.

    Raises:
        NlpAppError: of another rank than 0 it names the rank.
        SystemExit: another process is gone, which was said.
    """
    size = _size()
    if size == 1:
        yield Ranks()
        return
    ranks = _join(size)
    neighbours = _neighbours(ranks)
    try:
        yield ranks
    except NlpAppError as error:
        if not ranks.first:
            raise type(error)(f"rank {ranks.rank}: {error}") from None
        if not ranks.busy:
            with contextlib.suppress(RuntimeError):
                ranks.tell(Command.FAIL)
        raise
    except RuntimeError as error:
        if not any(sign in str(error) for sign in SIGNS):
            raise
    else:
        dist.destroy_process_group()
        return
    _say_who_is_gone(ranks, neighbours)
    if not ranks.stop.made:  # or torchrun's signal came already
        time.sleep(SECONDS_TO_BE_ENDED)
    raise SystemExit(EXIT_CODE)


def _size() -> int:
    """Of the processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _join(size: int) -> Ranks:
    """Meet under names of this attempt: torchrun keeps its store through a restart, with the addresses of the dead."""
    store, rank, _ = next(dist.rendezvous("env://", timeout=PATIENCE))  # type: ignore[attr-defined]
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store = dist.PrefixStore(f"attempt {attempt} of {size}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    return Ranks(rank=rank, size=size)


@contextmanager
def agreeing(ranks: Ranks) -> Iterator[dict[str, Any]]:
    """Prepare; an error of one process ends them all, and so does a value put into the dict that is not rank 0's.

    Raises:
        NlpAppError: this process has to say why.
        SystemExit: another one says it.
    """
    found: dict[str, Any] = {}
    error: NlpAppError | None = None
    try:
        yield found
    except NlpAppError as raised:
        if not ranks.several:
            raise
        error = raised
    if ranks.several:
        _compare(ranks, found, error)


@contextmanager
def one_voice(ranks: Ranks) -> Iterator[None]:
    """Let rank 0 alone print."""
    with contextlib.ExitStack() as stack:
        if not ranks.first:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield


def _compare(ranks: Ranks, found: dict[str, Any], error: NlpAppError | None) -> None:
    of_all: list[Any] = [None] * ranks.size
    dist.all_gather_object(of_all, (str(error) if error else None, found))
    said, expected = of_all[0]
    if error is not None and (ranks.first or str(error) != said):
        raise error
    if any(sentence for sentence, _ in of_all):
        raise SystemExit(EXIT_CODE)
    for rank, (_, values) in enumerate(of_all):
        for name in expected:
            if values[name] != expected[name]:
                if not ranks.first:
                    raise SystemExit(EXIT_CODE)
                both = f"{values[name]!r} and {expected[name]!r}"
                remedy = "all processes of a run need the same options, texts and libraries"
                raise ConfigError(f"rank {rank} and rank 0 differ in {name} ({both}): {remedy}")


def _neighbours(ranks: Ranks) -> dict[int, int]:
    """The ranks on this machine, the own one among them, and their processes."""
    of_all: list[Any] = [None] * ranks.size
    dist.all_gather_object(of_all, (socket.gethostname(), os.getpid()))
    host, _ = of_all[ranks.rank]
    return {rank: pid for rank, (at, pid) in enumerate(of_all) if at == host}


def _say_who_is_gone(ranks: Ranks, neighbours: dict[int, int]) -> None:
    """One of those that are left on a machine says which is gone, if it can be known, which may take a moment."""
    left = [rank for rank, pid in neighbours.items() if _lives(pid)]
    for _ in range(TRIES):
        if len(left) < len(neighbours):
            break
        time.sleep(SECONDS_BETWEEN_TRIES)
        left = [rank for rank, pid in neighbours.items() if _lives(pid)]
    gone = [f"rank {rank} (process {pid})" for rank, pid in neighbours.items() if rank not in left]
    if ranks.rank in left[:1]:
        print(f"error: {' and '.join(gone) or 'another process'} ended, so the run does", file=sys.stderr, flush=True)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return not Path("/proc/self").exists()  # where it cannot be known
