"""The state of a run on disk, from which --resume goes on: tensors as safetensors, the rest JSON."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from nlp_app.errors import OutputError
from nlp_app.folder import RESUME, write_file

STATE = "state.json"
OUTCOME = ("scores", "stopped_because", "best", "diverged")
"""Of a selection."""


@dataclass(kw_only=True)
class RunState:
    """How far a run has come; what is not here follows from the options and the data."""

    fingerprint: dict[str, Any]
    """The options and the digest of the data: a run goes on only with the same."""
    phase: str = "selection"
    """"selection" while the number of epochs is looked for, "distillation" while that is done with a teacher, "refit"
    while all rows are trained on."""
    step: int = 0
    """Steps of this phase that are done."""
    learner: dict[str, Any] = field(default_factory=dict)
    """What Learner.values gave after the last evaluation."""
    seconds: float = 0.0
    """Spent in training, over all sittings."""
    texts_seen: int = 0
    scores: list[dict[str, float]] = field(default_factory=list)
    """Of each evaluation of the selection: validation loss, accuracy, macro F1 and the standard error of the one that
    chooses, the training loss since the evaluation before, and the steps and epochs that were done."""
    stopped_because: str = ""
    """Why the selection ended; empty while it goes on."""
    best: int = 0
    """The number of the best evaluation, from 1; 0 where there is none."""
    diverged: bool = False
    """Whether it ended because the loss was no number."""
    teacher: dict[str, Any] = field(default_factory=dict)
    """What is known of the teacher, as metrics.json tells it; empty where there is none."""
    aside: dict[str, Any] = field(default_factory=dict)
    """What the selection without the teacher came to."""
    refitted: bool = False
    """Whether the refit was brought to its end."""
    cut_short: list[str] = field(default_factory=list)
    """What --max-seconds left no time for: "ngrams", "selection", "refit"."""
    launch: str = ""
    """The torchrun whose processes it is of, which may start them again; empty where there is none."""

    def begin(self, phase: str) -> None:
        """Start a phase from its first step."""
        self.phase, self.step, self.learner = phase, 0, {}

    def put_aside(self, phase: str) -> None:
        """Remember what the selection came to, and start another one."""
        self.aside = {name: getattr(self, name) for name in OUTCOME}
        self.scores, self.stopped_because, self.best = [], "", 0
        self.begin(phase)

    def take_back(self, phase: str) -> None:
        """Be at the end of the selection that was put aside."""
        for name, value in self.aside.items():
            setattr(self, name, value)
        self.begin(phase)

    @property
    def best_scores(self) -> dict[str, float]:
        """The scores of the best evaluation, or of the last where none is best."""
        return self.scores[self.best - 1]


class StateStore:
    """Saves and loads RunState with its tensors in DIR.partial/resume, so that a crash leaves the old or the new."""

    def __init__(self, *, work: Path) -> None:
        self._folder = work / RESUME

    def save(self, state: RunState, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write tensors under names of this step, then the state that points to them, then remove the old ones.

        Args:
            state: where the run is.
            tensors: named sets of tensors; those of a set that is not given stay what they were.
        """
        self._folder.mkdir(exist_ok=True)
        files = {**self._files(), **{name: f"{name}-{state.phase}-{state.step}.safetensors" for name in tensors}}
        for name, values in tensors.items():
            data = safetensors.torch.save({key: value.contiguous().cpu() for key, value in values.items()})
            write_file(self._folder / files[name], data)
        write_file(self._folder / STATE, json.dumps({"state": asdict(state), "files": files}).encode())
        for path in self._folder.iterdir():
            if path.name not in (STATE, *files.values()):
                path.unlink()

    def load(self) -> RunState | None:
        """The saved state, or None where there is none.

        Raises:
            OutputError: it was edited or is of another version of this program.
        """
        try:
            return RunState(**json.loads((self._folder / STATE).read_bytes())["state"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{self._folder / STATE} cannot be used ({error}): start over with --overwrite") from None

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A set of tensors of the saved state.

        Raises:
            OutputError: its file is missing or broken.
        """
        path = self._folder / self._files().get(name, f"{name}.safetensors")
        try:
            return safetensors.torch.load(path.read_bytes())
        except (OSError, SafetensorError, ValueError) as error:
            raise OutputError(f"{path} cannot be used ({error}): start over with --overwrite") from None

    def remove(self) -> None:
        """Forget the state."""
        shutil.rmtree(self._folder)

    def _files(self) -> dict[str, str]:
        try:
            files: dict[str, str] = json.loads((self._folder / STATE).read_bytes())["files"]
        except FileNotFoundError:
            return {}
        return files
