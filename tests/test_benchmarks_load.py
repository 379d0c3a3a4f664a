"""How the loads of benchmarks.serving send and count; nothing is timed."""

import pytest

from benchmarks.http_bytes import request_of, whole_answer
from benchmarks.load_open import Line, OpenLoop
from benchmarks.load_wrk import read_wrk
from benchmarks.serving_offered import summary


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
