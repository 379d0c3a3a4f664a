"""The processes of a run that torchrun started: rank 0 leads, the others take its steps along and are told what is next.

Whatever is decided, is decided by rank 0: when to evaluate, to stop, to give up. So no two can decide differently, and
none waits for one that has gone another way.
"""

import contextlib
import io
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nlp_app.errors import EXIT_CODE, ConfigError, NlpAppError
from training.interrupt import StopRequest

PATIENCE = timedelta(days=30)
"""For another process, which may fit n-grams or score texts meanwhile; one that dies is noticed at once all the same."""
SECONDS_TO_BE_ENDED = 15.0
"""By torchrun, which then names the process that died first, and not one that followed it."""
TRIES, SECONDS_BETWEEN_TRIES = 20, 0.05
"""Of finding out who is gone."""
SIGNS = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
"""What a RuntimeError says where another process is gone."""


class Command(IntEnum):
    """What rank 0 has the others do."""

    STEP = 1
    EVALUATED = 2
    """Told with the validation loss."""
    BEGIN = 3
    """A learner of the training texts."""
    BEGIN_ALL = 4
    """A learner of all texts."""
    END = 5
    FAIL = 6


@dataclass(kw_only=True)
class Ranks:
    """This process among those of the run; alone where there is no other."""

    rank: int = 0
    size: int = 1
    stop: StopRequest = field(default_factory=StopRequest)
    """Of this process; made of one it becomes rank 0's, who heeds it for all."""
    busy: bool = False
    """In a step, where others wait for numbers and not for a command."""
    over: bool = False
    neighbours: dict[int, int] = field(default_factory=dict)
    """The processes on this machine by their ranks, this one among them."""

    @property
    def first(self) -> bool:
        """Whether this one leads, writes and talks."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def tell(self, command: Command, value: float = 0.0) -> None:
        """Let the others go on, which wait in hear()."""
        if self.several and not self.over:
            self._exchange(float(command), value)
            self.over = command in (Command.END, Command.FAIL)

    def hear(self) -> tuple[Command, float]:
        """Wait for what rank 0 tells, and its value."""
        command, value = self._exchange(0.0, 0.0)
        return Command(int(command)), value

    def quietly(self) -> AbstractContextManager[object]:
        """Where one voice is enough."""
        stack = contextlib.ExitStack()
        if not self.first:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        return stack

    @contextmanager
    def agreeing(self) -> Iterator[dict[str, Any]]:
        """Prepare; an error of one process ends them all, and so does a value of the dict that is not rank 0's.

        Raises:
            NlpAppError: this process has to say why; the others end in silence.
        """
        found: dict[str, Any] = {}
        error: NlpAppError | None = None
        try:
            yield found
        except NlpAppError as raised:
            if not self.several:
                raise
            error = raised
        if self.several:
            self._compare(found, error)

    def find_neighbours(self) -> None:
        """Learn who is on this machine."""
        of_all: list[Any] = [None] * self.size
        dist.all_gather_object(of_all, (socket.gethostname(), os.getpid()))
        host, _ = of_all[self.rank]
        self.neighbours = {rank: pid for rank, (at, pid) in enumerate(of_all) if at == host}

    def say_who_is_gone(self) -> None:
        """After another process is gone: one of those that are left on a machine says which, if it can be known."""
        tries = (self._left() for _ in range(TRIES))
        left = next((found for found in tries if len(found) < len(self.neighbours)), list(self.neighbours))
        gone = [f"rank {rank} (process {pid})" for rank, pid in self.neighbours.items() if rank not in left]
        if self.rank in left[:1]:
            print(
                f"error: {' and '.join(gone) or 'another process'} ended, so the run does", file=sys.stderr, flush=True
            )

    def _left(self) -> list[int]:
        """The neighbours that are alive; a process that is gone may take a moment to look so."""
        found = [rank for rank, pid in self.neighbours.items() if _lives(pid)]
        if len(found) == len(self.neighbours):
            time.sleep(SECONDS_BETWEEN_TRIES)
        return found

    def _compare(self, found: dict[str, Any], error: NlpAppError | None) -> None:
        of_all: list[Any] = [None] * self.size
        dist.all_gather_object(of_all, (str(error) if error else None, found))
        if any(said for said, _ in of_all):
            if error is not None and (self.first or str(error) != of_all[0][0]):
                raise error
            raise SystemExit(EXIT_CODE)
        _, expected = of_all[0]
        for rank, (_, values) in enumerate(of_all):
            for name, value in expected.items():
                if values[name] != value:
                    if not self.first:
                        raise SystemExit(EXIT_CODE)
                    raise ConfigError(
                        f"rank {rank} and rank 0 differ in {name} ({values[name]!r} and {value!r}): "
                        "all processes of a run need the same options, texts and libraries"
                    )

    def _exchange(self, command: float, value: float) -> tuple[float, float]:
        """The sum over all processes, of which rank 0 alone has any; a request to stop reaches it on the same way."""
        told = torch.tensor([command, value, float(self.stop.made)], dtype=torch.float64)
        dist.all_reduce(told)
        command, value, stops = told.tolist()
        self.stop.made = self.stop.made or (self.first and stops > 0)
        return command, value


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return not Path("/proc/self").exists()  # where it cannot be known


@contextmanager
def together() -> Iterator[Ranks]:
    """Join the processes that torchrun started; without torchrun, or where it started one, this one is alone.

    Raises:
        NlpAppError: of another rank than 0 it names the rank; another process is gone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    ranks = Ranks(rank=dist.get_rank(), size=size)
    ranks.find_neighbours()
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
    ranks.say_who_is_gone()
    if not ranks.stop.made:  # or torchrun's signal came already
        time.sleep(SECONDS_TO_BE_ENDED)
    raise SystemExit(EXIT_CODE)
