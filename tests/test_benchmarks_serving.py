"""What benchmarks.serving and benchmarks.chaos tell of figures that are given, and how they count; nothing is timed."""

import json
from collections import Counter
from typing import Any

import pytest

from benchmarks import chaos, serving
from benchmarks.chaos import Outcome, Scenario, judge
from benchmarks.serving import Figure, summary
from benchmarks.serving_load import Line, OpenLoop, read_wrk, request_of, whole_answer

ANSWERS = {"v1": [("cold", 0.9), ("hot", 0.8)], "v2": [("hot", 0.9), ("cold", 0.8)]}


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
    assert serving.ratio({"ours": [1, 9, 2], "peer": [1, 3, 4]}, "ours", "peer") == 1


def test_rounds_take_the_ways_in_turn() -> None:
    asked: list[str] = []

    def way(name: str) -> dict[str, float]:
        asked.append(name)
        return {"rate": len(asked)}

    found = serving.in_turn({"a": lambda: way("a"), "b": lambda: way("b")}, "rate")
    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_varied_texts_have_every_length_and_more_than_ascii() -> None:
    texts = serving.varied(["where is my card", "charged twice"], 2000)
    lengths = sorted(map(len, texts))
    assert lengths[0] < 10
    assert lengths[1000] < 20
    assert 4000 < lengths[-1] <= serving.LONGEST
    assert not all(text.isascii() for text in texts)
    assert texts == serving.varied(["where is my card", "charged twice"], 2000)


def test_what_wrk_printed_is_read_and_refusals_are_no_answers() -> None:
    told = 'Running 1s test\nFOUND {"requests": 30, "seconds": 2.0, "refused": 10, "broken": 1, "p99_ms": 2.5}\n'
    assert read_wrk(told)["requests_s"] == 10


def test_an_answer_is_whole_when_its_body_is() -> None:
    data = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\nx: y\r\n\r\n{}"
    assert whole_answer(data) == (429, b"{}")
    assert all(whole_answer(data[:size]) is None for size in range(len(data)))


def test_a_request_announces_its_bytes() -> None:
    head, _, body = request_of("ä".encode(), "X: y").partition(b"\r\n\r\n")
    assert body == "ä".encode()
    assert b"\r\nContent-Length: 2\r\nX: y" in head


class FakeLine:
    """A connection that remembers what it was to send."""

    def __init__(self) -> None:
        self.due = -1.0
        self.sent: list[float] = []

    def send(self, _: bytes, due: float) -> None:
        self.due = due
        self.sent.append(due)


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def open_loop(*lines: Line, waits: bool, rate: float = 10, seconds: float = 1) -> tuple[OpenLoop, FakeClock]:
    clock = FakeClock()
    load = OpenLoop(requests=[b""], rate=rate, seconds=seconds, waits=waits, clock=clock)
    for line in lines:
        load.opened(line)
    load.begin()
    return load, clock


def test_requests_are_sent_when_they_are_due_whatever_the_answers() -> None:
    lines = [FakeLine(), FakeLine(), FakeLine()]
    load, clock = open_loop(*lines, waits=False)
    for now in (100.05, 100.1, 100.25):
        clock.now = now
        load.tick()
    assert [line.sent for line in lines] == [[100.0], [100.1], [100.2]]
    assert load.late_s == pytest.approx([0.05, 0, 0.05])
    assert load.flying == 3


def test_what_came_of_the_warm_up_is_forgotten() -> None:
    lines = [FakeLine(), FakeLine(), FakeLine()]
    load, _ = open_loop(*lines, waits=False)
    load.warm_up()
    assert load.flying == 3
    load.lost(lines[0], asked=True)
    for line in lines[1:]:
        load.answered(line, 200)
    load.begin()
    assert (load.flying, load.broken, load.answers, load.begun) == (0, 0, [], 0)
    assert list(load.free) == lines[1:]


def test_a_latency_counts_from_when_the_request_was_due() -> None:
    line = FakeLine()
    load, clock = open_loop(line, waits=True)
    clock.now = 100.3  # four are due, and one connection is there
    load.tick()
    clock.now = 100.5
    load.answered(line, 200)
    load.answered(line, 200)
    assert [seconds for _, seconds in load.answers] == pytest.approx([0.5, 0.4])
    assert line.sent == pytest.approx([100.0, 100.1, 100.2])
    assert not load.done


def test_without_a_connection_a_request_is_turned_away() -> None:
    line = FakeLine()
    load, clock = open_loop(line, waits=False)
    clock.now = 100.35
    load.tick()
    load.answered(line, 200)
    assert (load.turned_away, load.begun, load.flying) == (3, 4, 0)


def test_a_load_is_done_when_all_is_sent_and_answered() -> None:
    lines = [FakeLine() for _ in range(3)]
    load, clock = open_loop(*lines, waits=False, seconds=0.3)
    clock.now = 101.0
    load.tick()
    assert load.sent_all
    load.answered(lines[0], 200)
    load.lost(lines[1], asked=True)
    assert not load.done
    load.answered(lines[2], 503)
    assert load.done
    assert load.broken == 1


def test_a_connection_that_goes_while_nobody_asks_is_not_used() -> None:
    lines = [FakeLine(), FakeLine()]
    load, _ = open_loop(*lines, waits=False)
    load.lost(lines[0], asked=False)
    load.tick()
    assert [len(line.sent) for line in lines] == [0, 1]
    assert load.broken == 0


def test_goodput_is_what_was_answered_in_time() -> None:
    load, clock = open_loop(waits=False, rate=5, seconds=1)
    clock.now = 102.0
    load.tick()
    load.ended()
    load.answers = [(200, 0.5), (200, 1.5), (429, 0.01), (200, 0.25)]
    found = summary(load)
    assert (found["offered_s"], found["goodput_s"]) == (2.5, 1.0)
    assert found["statuses"] == {"200": 3, "429": 1}
    assert (found["late"], found["turned_away"], sum(found["histogram"])) == (1, 5, 3)


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


@pytest.mark.parametrize("bad", chaos.BAD)
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
    assert Scenario(name="one", missing="--workers").kept is None


def test_the_section_of_chaos_counts_each_outcome() -> None:
    kept = Scenario(name="kept", counts=Counter({Outcome.RIGHT: 1200, Outcome.BROKEN: 3}), notes=["a note", "a note"])
    missed = Scenario(name="missed", counts=Counter({Outcome.RIGHT: 1, Outcome.LOST: 2}), faults=["exit code 1"])
    missed.faulty[Outcome.REFUSED] += 50
    missing = Scenario(name="missing", missing="--workers")
    shown = chaos.section({"scenarios": [each.to_json() for each in (kept, missed, missing)]})
    assert "| kept | 1,203 | 1,200 | 0 | 3 | 0 | 0 | 0 | 0 |  | kept | 2 x a note |" in shown
    assert "| missed | 3 | 1 | 0 | 0 | 2 | 0 | 0 | 0 | 50 refused clearly | **missed** | exit code 1 |" in shown
    assert "not there yet: --workers" in shown
