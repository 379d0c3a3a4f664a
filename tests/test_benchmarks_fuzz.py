"""The fuzzer finds what it looks for; and a few hundred of its cases, to a real server."""

import json
from pathlib import Path

import pytest

from benchmarks.fuzz import Client, Findings, Torn, fuzz, judge_log, take_answer
from benchmarks.fuzz_cases import FORGED, SECRET, make_case

JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def test_an_answer_is_taken_when_it_is_whole() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + JSON + b"[12]"
    assert take_answer(data + b"HTTP/1.1 ") == (200, b"[12]", len(data))
    assert all(take_answer(data[:size]) is None for size in range(len(data)))
    chunked = CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
    assert take_answer(chunked) == (200, b"abcd", len(chunked))
    assert all(take_answer(chunked[:size]) is None for size in range(len(chunked)))


@pytest.mark.parametrize("data", [JSON + b"[1, ", b"<html>\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"{}"])
def test_what_is_no_answer_is_torn(data: bytes) -> None:
    with pytest.raises(Torn):
        take_answer(data)


def line(**values: object) -> str:
    own = {
        "time": "now",
        "level": "info",
        "logger": "serving.access",
        "message": "x",
        "id": "a-1",
        "path": f"/{FORGED}",
    }
    return json.dumps(own | values)


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (line(), ""),
        (FORGED, "no line of the server's"),
        ("[]", "no line of the server's"),
        (line(x=1), "no line of the server's"),
        (line(exception="Traceback …"), "no line of the server's"),
        (line(message=SECRET), "holds a text"),
        (line(level="error"), "forged, or an error"),
        (line(id=f"{FORGED} y"), "forged, or an error"),
        (line(logger=FORGED), "forged, or an error"),
    ],
)
def test_a_line_of_the_log_is_judged(told: str, fault: str) -> None:
    assert [one.partition(":")[0] for one in judge_log([line(), told])] == [fault] * bool(fault)


def test_a_number_makes_the_same_case_again_and_others_other_cases() -> None:
    cases = [make_case(0, number, "m") for number in range(300)]
    assert cases == [make_case(0, number, "m") for number in range(300)]
    assert len({case.data for case in cases}) > 280
    assert 0.15 < sum(not case.whole for case in cases) / 300 < 0.35


def test_an_answer_of_500_is_a_fault_and_503_is_none() -> None:
    findings = Findings()
    client = Client(port=0, findings=findings)
    for status in (200, 422, 503, 504, 500):
        client._note(7, status)
    assert findings.faults == ["case 7: answered by 500"]
    assert findings.statuses.total() == 5


def test_a_few_hundred_cases_find_no_fault(shared_checkpoint: Path) -> None:
    findings, lines = fuzz(shared_checkpoint, 1, range(400))
    assert not findings.faults
    assert {200, 400, 422} <= findings.statuses.keys()
    assert lines > 300
