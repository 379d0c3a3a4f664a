"""What benchmarks.serving tells of figures that are given, and the texts that it asks; nothing is timed."""

from typing import Any

import pytest

from benchmarks import serving
from benchmarks.serving_figures import Figure, in_turn, ratio
from benchmarks.serving_process import LONGEST, varied


def figure(value: float | None, *, at_least: bool = True, told: str = "") -> dict[str, Any]:
    return {"name": f"a figure of {value}", "bar": 2.0, "at_least": at_least, "value": value, "told": told}


def result(*figures: dict[str, Any]) -> dict[str, Any]:
    return {"machine": "a machine", "seconds": 5.0, "requests": 10, "figures": list(figures)}


@pytest.mark.parametrize(
    ("value", "at_least", "kept"),
    [(2.0, True, True), (1.9, True, False), (2.0, False, True), (2.1, False, False), (None, True, None)],
)
def test_a_bar_is_kept_or_missed(value: float | None, at_least: bool, kept: bool | None) -> None:
    assert Figure(**figure(value, at_least=at_least)).kept is kept


def test_the_section_names_what_is_missed() -> None:
    shown = serving.section(result(figure(2.5), figure(1.0), figure(None, told="litserve is not installed")))
    assert "| a figure of 2.5 | 2.50 | at least 2 | kept |" in shown
    assert "| a figure of 1.0 | 1.00 | at least 2 | **missed** |" in shown
    assert "| a figure of None | not measured | at least 2 |  | litserve is not installed |" in shown
    assert shown.endswith("**Missed: a figure of 1.0.**")
    assert "Every bar that was measured is kept" in serving.section(result(figure(2.0), figure(None)))


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    assert ratio({"ours": [1, 9, 2], "peer": [1, 3, 4]}, "ours", "peer") == 1


def test_rounds_take_the_ways_in_turn() -> None:
    asked: list[str] = []

    def way(name: str) -> dict[str, float]:
        asked.append(name)
        return {"rate": len(asked)}

    found = in_turn({"a": lambda: way("a"), "b": lambda: way("b")}, "rate")
    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_varied_texts_have_every_length_and_more_than_ascii() -> None:
    texts = varied(["where is my card", "charged twice"], 2000)
    lengths = sorted(map(len, texts))
    assert lengths[0] < 10
    assert lengths[1000] < 20
    assert 4000 < lengths[-1] <= LONGEST
    assert not all(text.isascii() for text in texts)
    assert texts == varied(["where is my card", "charged twice"], 2000)
