"""What an audit finds: one finding a check, with examples that a person can look up."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from training.audit_private import safe

SHOWN = 80
"""Characters of a text in an example."""
SEVERITIES = ("high", "medium", "low")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row that a finding is about."""

    place: str
    text: str
    labels: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found."""

    name: str
    severity: str
    count: int
    of: int
    what: str
    """A sentence about the count."""
    advice: str
    """What to do."""
    examples: Sequence[Example] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Of the rows."""
        return self.count / self.of if self.of else 0.0

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "share": self.share}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Texts of one part of the data, as they stand in the files."""

    name: str
    """train, validation or test."""
    texts: Sequence[str]
    labels: Sequence[tuple[str, ...]]
    places: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def example(self, row: int, why: str = "") -> Example:
        """One row."""
        return Example(
            place=self.places[row], text=excerpt(self.texts[row]),
            labels=safe(", ".join(self.labels[row])), why=safe(why),
        )  # fmt: skip

    def examples(self, rows: Iterable[int], most: int, why: str = "") -> list[Example]:
        """The first few rows."""
        return [self.example(row, why) for row, _ in zip(rows, range(most), strict=False)]


def excerpt(text: str) -> str:
    """The beginning of a text, in one line, without keys, personal data and control characters."""
    line = " ".join(safe(text).split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def texts(count: int) -> str:
    """`1 text`, `2 texts`."""
    return f"{count:,} text{'' if count == 1 else 's'}"
