"""Teachers: what gives each text a score for every label, so that the convolution can learn from the scores.

A checkpoint of this project, a file of scores that any classifier wrote, or a sentence encoder (training/encoder.py).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from nlp_app.checkpoint import Checkpoint, load_checkpoint
from nlp_app.config import ModelConfig
from nlp_app.encoding import encode
from nlp_app.errors import ConfigError, DataError
from nlp_app.folder import MANIFEST
from nlp_app.packing import open_file
from nlp_app.rows import decoded_lines
from nlp_app.scoring import score
from training.data import Examples
from training.encoder import EncoderTeacher, load_encoder
from training.prepare import Prepared

SHAPE = '{"text": …, "scores": {LABEL: PROBABILITY, …}}'
LEAST = 1e-6
"""A probability of 0 has no logarithm."""
SUM_TOLERANCE = 0.01
HUB_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
FILES = (".jsonl", ".gz")
"""No name on the hub ends so."""


class Teacher(Protocol):
    """Whoever scores texts."""

    @property
    def digest(self) -> str:
        """Another teacher has another one."""

    def answer(self, prepared: Prepared, check: Callable[[], None]) -> tuple[Tensor, Tensor]:
        """The logits of the training texts and of the validation texts, (N, C) and (M, C).

        Args:
            prepared: the texts, and the order of the labels.
            check: called now and then, to be stopped by.
        """


def check_name(name: str) -> None:
    """Raise a ConfigError where nothing can be found under a name: neither on the disk nor on the hub."""
    if Path(name).exists():
        return
    if not HUB_NAME.fullmatch(name) or name.endswith(FILES):
        raise ConfigError(
            f"--teacher {name}: there is no such file or folder: name a checkpoint, a .jsonl file of scores, "
            "or a sentence-transformers folder or name"
        )
    load_encoder(Path(name), torch.device("cpu"))  # and again later: what is read before may take minutes


def find_teacher(name: Path, config: ModelConfig, device: torch.device) -> Teacher:
    """The teacher of a name: a file, a checkpoint folder, or else a sentence encoder's folder or name on the hub.

    Raises:
        ConfigError: it knows other labels than the training texts have.
        CheckpointError: the checkpoint is not whole.
    """
    if name.is_file():
        return ScoresFile(path=name)
    if not (name / MANIFEST).is_file():
        return EncoderTeacher(name=name, device=device)
    checkpoint = load_checkpoint(name, device=device)
    check_labels(name, checkpoint.config, config)
    return CheckpointTeacher(checkpoint=checkpoint)


def check_labels(name: Path, teacher: ModelConfig, config: ModelConfig) -> None:
    """Raise a ConfigError where the teacher's answers are not the task's."""
    if teacher.multi_label != config.multi_label:
        kinds = ("several labels a text", "one label a text")
        gives, have = kinds if teacher.multi_label else kinds[::-1]
        raise ConfigError(f"--teacher {name} gives {gives}, but the training texts have {have}: name another teacher")
    lacking, own = (sorted(set(a.labels) - set(b.labels)) for a, b in ((config, teacher), (teacher, config)))
    sides = ((f"--teacher {name} lacks", lacking), ("the training texts lack its", own))
    differ = [f"{side} {', '.join(map(repr, labels))}" for side, labels in sides if labels]
    if differ:
        raise ConfigError(f"{' and '.join(differ)}: a teacher needs the very labels of the training texts")


@dataclass(frozen=True, kw_only=True)
class CheckpointTeacher:
    """A checkpoint; where it has seen these texts in its own training, it is surer of them than it ought to be."""

    checkpoint: Checkpoint

    @property
    def digest(self) -> str:
        """The model's version."""
        return self.checkpoint.version

    def answer(self, prepared: Prepared, check: Callable[[], None]) -> tuple[Tensor, Tensor]:
        """As Teacher.answer."""
        config, tokenizer = self.checkpoint.config, self.checkpoint.tokenizer
        columns = [config.labels.index(label) for label in prepared.config.labels]

        def logits(examples: Examples) -> Tensor:
            check()
            return score(self.checkpoint.module, encode(examples.texts, tokenizer=tokenizer, config=config))[:, columns]

        train, validation = prepared.examples
        return logits(train), logits(validation)


@dataclass(frozen=True, kw_only=True)
class ScoresFile:
    """A file with a line of SHAPE for every text; a label that a line leaves out has a probability of 0."""

    path: Path

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def answer(self, prepared: Prepared, check: Callable[[], None]) -> tuple[Tensor, Tensor]:
        """As Teacher.answer.

        Raises:
            DataError: a line breaks the rule, or a text has none.
        """
        found = dict(_read(self.path, prepared.config))
        check()
        places = [(text, part.place(row)) for part in prepared.examples for row, text in enumerate(part.texts)]
        if missing := [place for text, place in places if text not in found]:
            raise DataError(
                f"{self.path} has no scores for {len(missing):,} of the {len(places):,} training and validation texts, "
                f"the first of which is at {missing[0]}: score every one"
            )
        table = torch.tensor([found[text] for text, _ in places]).clamp(LEAST, 1 - LEAST)
        logits = torch.logit(table) if prepared.config.multi_label else table.log()
        return logits[: len(prepared.train)], logits[len(prepared.train) :]


def _read(path: Path, config: ModelConfig) -> Iterator[tuple[str, list[float]]]:
    """The texts with their probabilities, in the order of the labels."""
    with open_file(path) as stream:
        for number, line in enumerate(decoded_lines(stream, path), start=1):
            if line.strip():
                text, scores = _parse(line, f"{path}:{number}")
                yield text, _probabilities(scores, f"{path}:{number}", config)


def _parse(line: str, place: str) -> tuple[str, dict[str, object]]:
    try:
        values = json.loads(line)
        text, scores = values["text"], values["scores"]
    except (ValueError, RecursionError, KeyError, TypeError):
        text = scores = None
    if not isinstance(text, str) or not isinstance(scores, dict):
        raise DataError(f"{place}: the line must be {SHAPE}")
    return text, scores


def _probabilities(scores: dict[str, object], place: str, config: ModelConfig) -> list[float]:
    if unknown := sorted(scores.keys() - set(config.labels)):
        raise DataError(f"{place}: the label {unknown[0]!r} is none of the training texts': correct it or leave it out")
    row = [scores.get(label, 0) for label in config.labels]
    numbers = [
        float(one) for one in row if isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one <= 1
    ]
    if len(numbers) < len(row):
        raise DataError(f"{place}: every score must be a number from 0 to 1")
    if not config.multi_label and abs(sum(numbers) - 1) > SUM_TOLERANCE:
        raise DataError(f"{place}: the scores sum to {sum(numbers):.3g}, but those of one text must sum to 1")
    return numbers
