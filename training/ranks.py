"""The processes of a run that torchrun started: rank 0 leads, the others are told what is next.

All is decided by rank 0: when to evaluate, to stop, to give up. So no two can decide differently, and none waits for
one that has gone another way.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import torch
import torch.distributed as dist

from training.interrupt import StopRequest


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
    """One process among those of the run; alone where there is no other."""

    rank: int = 0
    size: int = 1
    stop: StopRequest = field(default_factory=StopRequest)
    """Of this process; one that is made of another rank becomes rank 0's, which heeds it for all."""
    busy: bool = False
    """In a step, where others wait for numbers and not for a command."""
    over: bool = False
    """The others have ended."""

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

    def _exchange(self, command: float, value: float) -> tuple[float, float]:
        """The sum over all processes, of which rank 0 alone has any; a request to stop reaches it on the same way."""
        told = torch.tensor([command, value, float(self.stop.made)], dtype=torch.float64)
        dist.all_reduce(told)
        command, value, stops = told.tolist()
        self.stop.made = self.stop.made or (self.first and stops > 0)
        return command, value
