"""A figure of benchmarks.serving beside its bar, and how one is made of rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Something measured, and the bar that it should keep."""

    name: str
    bar: float
    at_least: bool
    value: float | None = None
    told: str = ""
    """Of what it was made, or why it was not measured."""

    @property
    def kept(self) -> bool | None:
        """Whether the bar is; None where nothing was measured."""
        if self.value is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def row(self) -> tuple[str, ...]:
        """Of the table."""
        value = "not measured" if self.value is None else f"{self.value:,.2f}"
        bar = f"{'at least' if self.at_least else 'at most'} {self.bar:g}"
        return self.name, value, bar, {None: "", True: "kept", False: "**missed**"}[self.kept], self.told


def in_turn(
    ways: Mapping[str, Callable[[], Mapping[str, float]]], key: str, rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """A figure of each way in each round; every second round takes them in the other order."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            found[name].append(ways[name]()[key])
    return found


def ratio(found: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """The median of the ratios of the rounds."""
    return median(a / b for a, b in zip(found[one], found[other], strict=True))
