"""What became of the requests of benchmarks.chaos, each answer compared with the model's own."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import OK
from typing import Any

TOLERANCE = 1e-5
PATIENCE_S = 10.0
"""A request that nothing has come of by then is lost."""
REFUSED_FROM = 400

Answers = Mapping[str, Sequence[tuple[str, float]]]
"""For each version the label and score of each text."""
Places = Sequence[int]
"""Of the texts of a request."""


class Outcome(StrEnum):
    """What became of a request."""

    RIGHT = "answered right"
    REFUSED = "refused clearly"
    BROKEN = "broken off"
    """Reset, refused or closed at once, before an answer began: the client knows."""
    LOST = "lost"
    """Nothing within PATIENCE_S."""
    TRUNCATED = "truncated"
    """An answer that ends in its midst."""
    MIXED = "mixed up"
    """Not the answer to this text."""
    UNCLEAR = "unclear"
    """An answer that is neither a prediction nor a refusal with a sentence."""


BAD = (Outcome.LOST, Outcome.TRUNCATED, Outcome.MIXED, Outcome.UNCLEAR)


def judge(status: int, body: bytes, places: Places, answers: Answers) -> Outcome:
    """What a whole answer is worth."""
    try:
        values = json.loads(body)
        if status >= REFUSED_FROM:
            return Outcome.REFUSED if isinstance(values["detail"], str) else Outcome.UNCLEAR
        found = [(one["label"], one["score"]) for one in values["predictions"]]
        version = values["model"]["version"]
    except (ValueError, KeyError, TypeError):
        return Outcome.UNCLEAR
    if status != OK:
        return Outcome.UNCLEAR
    expected = [answers[version][place] for place in places] if version in answers else []
    same = len(found) == len(expected) and all(map(_same, found, expected))
    return Outcome.RIGHT if same else Outcome.MIXED


def _same(found: tuple[str, float], expected: tuple[str, float]) -> bool:
    return found[0] == expected[0] and abs(found[1] - expected[1]) <= TOLERANCE


@dataclass(kw_only=True)
class Scenario:
    """What one scenario found."""

    name: str
    counts: Counter[Outcome] = field(default_factory=Counter)
    """Of requests that are in order."""
    faulty: Counter[Outcome] = field(default_factory=Counter)
    """Of those that are not."""
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether nothing was lost and nothing else was amiss."""
        return not self.faults and not any(self.counts[bad] for bad in BAD) and self.counts[Outcome.RIGHT] > 0

    def check(self, holds: bool, fault: str) -> None:
        """Note a fault unless it holds."""
        if not holds:
            self.faults.append(fault)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        counts = {
            name: {str(key): value for key, value in getattr(self, name).items()} for name in ("counts", "faulty")
        }
        return {"name": self.name, **counts, "notes": self.notes, "faults": self.faults}
