"""How benchmarks.chaos judges answers and counts what became of requests, and how its server breaks."""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks import chaos
from benchmarks.chaos_outcomes import BAD, Outcome, Scenario, judge
from benchmarks.faulty_server import break_answers, met_of
from serving.answers import Answers
from serving.batching import Item

ANSWERS = {"v1": [("cold", 0.9), ("hot", 0.8)], "v2": [("hot", 0.9), ("cold", 0.8)]}


def answer(*predictions: tuple[str, float], version: str = "v1") -> bytes:
    listed = [{"label": label, "score": score} for label, score in predictions]
    return json.dumps({"predictions": listed, "model": {"version": version}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, answer(("cold", 0.900001), ("hot", 0.8)), Outcome.RIGHT),
        (200, answer(("hot", 0.9), ("cold", 0.8), version="v2"), Outcome.RIGHT),
        (200, answer(("hot", 0.8), ("cold", 0.9)), Outcome.MIXED),
        (200, answer(("cold", 0.9001), ("hot", 0.8)), Outcome.MIXED),
        (200, answer(("cold", 0.9)), Outcome.MIXED),
        (200, answer(("cold", 0.9), ("hot", 0.8), version="v2"), Outcome.MIXED),
        (200, answer(("cold", 0.9), ("hot", 0.8), version="v3"), Outcome.MIXED),
        (200, b"{}", Outcome.UNCLEAR),
        (200, b"[]", Outcome.UNCLEAR),
        (204, answer(("cold", 0.9), ("hot", 0.8)), Outcome.UNCLEAR),
        (429, b'{"detail": "ask again"}', Outcome.REFUSED),
        (500, b'{"detail": null}', Outcome.UNCLEAR),
        (502, b"<html>", Outcome.UNCLEAR),
    ],
)
def test_an_answer_is_judged_by_its_text_and_version(status: int, body: bytes, outcome: Outcome) -> None:
    assert judge(status, body, [0, 1], ANSWERS) is outcome


@pytest.mark.parametrize("bad", BAD)
def test_a_scenario_is_kept_where_nothing_is_lost(bad: Outcome) -> None:
    found = Scenario(name="one", counts=Counter({Outcome.RIGHT: 9, Outcome.REFUSED: 2, Outcome.BROKEN: 3}))
    assert found.kept is True
    found.counts[bad] += 1
    assert found.kept is False


def test_a_scenario_without_an_answer_or_with_a_fault_is_missed() -> None:
    assert Scenario(name="one").kept is False
    found = Scenario(name="one", counts=Counter({Outcome.RIGHT: 9}))
    found.check(True, "none")
    assert found.kept is True
    found.check(False, "exit code 1")
    assert found.kept is False


def test_the_section_of_chaos_counts_each_outcome() -> None:
    kept = Scenario(name="kept", counts=Counter({Outcome.RIGHT: 1200, Outcome.BROKEN: 3}), notes=["a note", "a note"])
    missed = Scenario(name="missed", counts=Counter({Outcome.RIGHT: 1, Outcome.LOST: 2}), faults=["exit code 1"])
    missed.faulty[Outcome.REFUSED] += 50
    shown = chaos.section({"scenarios": [each.to_json() for each in (kept, missed)]})
    assert "| kept | 1,203 | 1,200 | 0 | 3 | 0 | 0 | 0 | 0 |  | kept | 2 x a note |" in shown
    assert "| missed | 3 | 1 | 0 | 0 | 2 | 0 | 0 | 0 | 50 refused clearly | **missed** | exit code 1 |" in shown


def test_a_server_breaks_in_its_thread_once_the_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(_: Answers, items: Sequence[Item]) -> list[bytes]:
        return [item.text.encode() for item in items]

    monkeypatch.setattr(Answers, "answer", whole)
    fault = tmp_path / "dead"
    break_answers("dead", fault)
    answers = object.__new__(Answers)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(answers.answer, [Item("a")]).result() == [b"a"]
        fault.touch()
        assert answers.answer([Item("a")]) == [b"a"], "the event loop goes on"
        assert not met_of(fault).exists()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="as it was asked to be"):
                thread.submit(answers.answer, [Item("a")]).result()
    assert met_of(fault).exists()
