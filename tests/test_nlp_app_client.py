import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import httpx2
import pytest
from httpx2 import MockTransport, Request, Response
from hypothesis import event, given
from hypothesis import strategies as st

from nlp_app import Predictor, predictor
from nlp_app.client import (
    AsyncClient,
    Client,
    LabelScore,
    Prediction,
    ServerError,
    ServerRefused,
    ServerUnreachable,
    UnexpectedAnswer,
    errors,
)
from nlp_app.client.exchange import Answer
from nlp_app.client.reading import read_prediction
from nlp_app.errors import ConfigError, NlpAppError
from nlp_app.explanation import Explanation, TokenContribution
from tests.conftest import LABELS, ROOT, TEXTS
from tests.test_serving_main import server

URL = "http://localhost:8000"
BROKEN = {
    "refused": httpx2.ConnectError("[Errno 111] Connection refused"),
    "closed": httpx2.RemoteProtocolError("Server disconnected without sending a response."),
    "read": httpx2.ReadError(""),
    "write": httpx2.WriteError(""),
}
HANGS = "hangs"
Trouble = str | tuple[int, str | None]
"""A connection that breaks or hangs, or a status with the Retry-After that comes with it."""


class Time:
    """A clock that only sleeping moves, and those who wait for an answer that does not come."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still: a machine that is busy ends no request."""

    def time(self) -> float:
        return 0.0


def echo(request: Request) -> Response:
    """The answer that names each text."""
    asked = json.loads(request.content)
    found = [{"label": text, "score": 0.5, "scores": [{"label": text, "score": 0.5}]} for text in asked["inputs"]]
    return Response(200, json={"predictions": found, "model": {"name": "echo", "version": "0"}})


def named(text: str) -> Prediction:
    return Prediction(text, 0.5, (LabelScore(text, 0.5),))


class Script:
    """A server that has its troubles one after the other, and then answers."""

    def __init__(self, troubles: Sequence[Trouble] = (), *, answer: Callable[[Request], Response] = echo) -> None:
        self.time = Time()
        self.requests: list[Request] = []
        self._troubles = list(troubles)
        self._answer = answer

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if len(self.requests) > len(self._troubles):
            return self._answer(request)
        trouble = self._troubles[len(self.requests) - 1]
        if trouble == HANGS:
            self.time.now += request.extensions["timeout"]["read"]
            raise httpx2.ReadTimeout("")
        if isinstance(trouble, str):
            raise BROKEN[trouble]
        status, after = trouble
        return Response(status, json={"detail": "wait"}, headers={} if after is None else {"Retry-After": after})

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]

    def client(self, **settings: Any) -> Client:
        settings = {"base_url": URL, "clock": self.time, "sleep": self.time.sleep, "uniform": lambda: 0.0, **settings}
        return Client(transport=MockTransport(self), **settings)

    def predict(self, texts: Any, *, how: str = "sync", top_k: int = 1, explain: bool = False, **settings: Any) -> Any:
        """By either client."""
        if how == "sync":
            with self.client(**settings) as client:
                return client.predict(texts, top_k, explain=explain)
        settings = {"base_url": URL, "clock": self.time, "uniform": lambda: 0.0, **settings}

        async def ask() -> list[Prediction]:
            async with AsyncClient(transport=MockTransport(self), sleep=self.time.sleep_async, **settings) as client:
                return await client.predict(texts, top_k, explain=explain)

        with asyncio.Runner(loop_factory=Loop) as runner:
            return runner.run(ask())


both = pytest.mark.parametrize("how", ["sync", "async"])
hows = st.sampled_from(["sync", "async"])
afters = st.one_of(st.none(), st.integers(0, 3).map(str), st.just("soon"))
troubles = st.one_of(st.sampled_from(sorted(BROKEN)), st.tuples(st.sampled_from([429, 503]), afters))


def told(trouble: Trouble) -> float:
    after = None if isinstance(trouble, str) else trouble[1]
    return float(after) if after is not None and after.isdigit() else 0.0


@given(
    how=hows,
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=12),
    batch_size=st.integers(1, 5),
    troubles=st.lists(troubles, max_size=6),
)
def test_every_text_gets_its_own_answer_whatever_happens_before(
    how: str, texts: list[str], batch_size: int, troubles: list[Trouble]
) -> None:
    script = Script(troubles)
    found = script.predict(texts, how=how, batch_size=batch_size, retries=len(troubles))
    assert found == [named(text) for text in texts]
    batches = -(-len(texts) // batch_size)
    assert len(script.requests) == (batches + len(troubles) if batches else 0)
    assert sorted(script.time.waits) == (sorted(map(told, troubles)) if batches else [])
    assert all(1 <= len(body["inputs"]) <= batch_size for body in script.bodies())


@given(
    how=hows,
    troubles=st.lists(st.one_of(troubles, st.just(HANGS)), max_size=8),
    retries=st.integers(0, 6),
    timeout_s=st.floats(0.1, 10),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_no_more_requests_than_allowed_and_no_longer(
    how: str, troubles: list[Trouble], retries: int, timeout_s: float, chance: float
) -> None:
    script = Script(troubles)
    try:
        found = script.predict(["a"], how=how, retries=retries, timeout_s=timeout_s, uniform=lambda: chance)
    except ServerUnreachable:
        count = len(script.requests)
        last = troubles[count - 1]
        would_wait = told(last) + chance * min(5, 0.1 * 2 ** (count - 1))
        assert count == retries + 1 or script.time.now + would_wait >= timeout_s
        event("gave up")
    else:
        assert found == [named("a")]
        assert len(script.requests) == len(troubles) + 1
    assert len(script.requests) <= retries + 1
    assert script.time.now <= timeout_s + 1e-6
    for wait, trouble in zip(script.time.waits, troubles, strict=False):
        assert wait >= told(trouble)
    for request in script.requests:
        assert 1 <= int(request.headers["X-Request-Timeout-Ms"]) <= max(1000 * request.extensions["timeout"]["read"], 1)


def test_waits_twice_as_long_each_time_but_not_for_ever() -> None:
    script = Script(["closed"] * 8)
    script.predict(["a"], retries=8, uniform=lambda: 0.5)
    assert script.time.waits == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5])


def test_a_request_says_how_long_its_client_waits() -> None:
    """A bit less, so that the refusal of a server that was too slow arrives."""
    script = Script([(503, "4"), (503, "5.5"), (503, "5")])
    script.predict(["a", "b"], timeout_s=10, batch_size=1)
    asked = [request.headers["X-Request-Timeout-Ms"] for request in script.requests]
    assert asked == ["9950", "5950", "5950", "950", "9950"]
    assert [request.extensions["timeout"]["read"] for request in script.requests] == [10, 6, 6, 1, 10]


@pytest.fixture
def far_from_greenwich() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "XYZ+7")
        time.tzset()
        yield
    time.tzset()


DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 0),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "-7"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "²"}, 0),
        ({"retry-after": "9" * 5000}, float("inf")),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": DATE}, 30),
        ({"retry-after": "Wednesday, 21-Oct-15 07:28:30 GMT", "date": DATE}, 30),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 -0000", "date": DATE}, 30),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:00 GMT", "date": DATE}, 0),
        ({"retry-after": DATE}, 0),
    ],
)
def test_reads_how_long_to_wait(headers: dict[str, str], expected: float, far_from_greenwich: None) -> None:
    assert Answer(503, headers, b"").retry_after_s() == expected


def test_a_date_counts_from_now_where_the_server_does_not_say_when_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1445412475.0)
    assert Answer(503, {"retry-after": DATE}, b"").retry_after_s() == 5


@given(st.one_of(st.text(), st.text("Wed, 21Oct05:78+-GMT")), st.text())
def test_no_header_breaks_it(after: str, date: str) -> None:
    assert Answer(503, {"retry-after": after, "date": date}, b"").retry_after_s() >= 0


@both
def test_does_not_wait_where_the_answer_would_come_too_late(how: str) -> None:
    script = Script([(503, "31")])
    with pytest.raises(
        ServerUnreachable, match=r"got no answer in 1 request and 0\.0 s \(503: wait\): see whether"
    ) as e:
        script.predict(["a"], how=how)
    assert (script.time.waits, e.value.status, e.value.detail) == ([], 503, "wait")


@both
def test_says_why_it_gave_up(how: str) -> None:
    for trouble, why in [
        ("refused", "no connection: [Errno 111] Connection refused"),
        ("closed", "the connection broke: RemoteProtocolError"),
        (HANGS, "it did not answer in time"),
    ]:
        script = Script([trouble] * 3)
        with pytest.raises(ServerUnreachable, match=re.escape(f"({why})")) as caught:
            script.predict(["a", "b"], how=how, retries=2)
        assert str(caught.value).startswith(f"POST {URL}/predict with texts[0:2] got no answer in ")
        assert (caught.value.status, caught.value.detail) == (None, "")


@both
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 415, 422, 500, 502, 504])
def test_what_is_refused_is_not_asked_again(how: str, status: int) -> None:
    script = Script(answer=lambda _: Response(status, json={"detail": "top_k: must be\n1 or more"}))
    with pytest.raises(ServerRefused, match=rf"predict with texts\[0:1\] was refused with {status}: top_k: must") as e:
        script.predict(["a"], how=how)
    assert (e.value.status, e.value.detail, len(script.requests)) == (status, "top_k: must be 1 or more", 1)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"detail": [{"input": "secret"}]}', b"[" * 9000])
def test_a_refusal_without_a_reason_is_no_failure_of_ours(body: bytes) -> None:
    script = Script(answer=lambda _: Response(502, content=body))
    with pytest.raises(ServerRefused, match=r"was refused with 502: it gave no reason, .* check base_url, and") as e:
        script.predict(["secret"])
    assert e.value.detail == ""


def test_follows_nobody_elsewhere() -> None:
    """With the key."""
    script = Script(answer=lambda _: Response(307, headers={"Location": "http://elsewhere"}))
    with pytest.raises(ServerRefused, match="was refused with 307"):
        script.predict(["a"], api_key="k")
    assert len(script.requests) == 1


GOOD: dict[str, Any] = {"label": "a", "score": 1, "scores": [{"label": "a", "score": 1}]}
TOKEN = {"token": "a", "start": 0, "end": 1, "contribution": 0.5}
NO_PREDICTIONS: list[Any] = [
    None, "secret", [], {}, {**GOOD, "label": 1}, {**GOOD, "score": "secret"}, {**GOOD, "score": True},
    {**GOOD, "score": 10**400}, {**GOOD, "scores": "secret"}, {**GOOD, "scores": [1]}, {**GOOD, "labels": "secret"},
    {**GOOD, "labels": None}, {**GOOD, "truncated": 1}, {**GOOD, "explanation": "secret"},
    {**GOOD, "explanation": {"label": "a", "baseline": 0}},
    {**GOOD, "explanation": {"label": "a", "baseline": 0, "tokens": [{**TOKEN, "start": "secret"}]}},
    {**GOOD, "explanation": {"label": "a", "baseline": 0, "tokens": [{**TOKEN, "token": None}]}},
    {**GOOD, "explanation": {"label": "a", "baseline": 0, "tokens": [{**TOKEN, "end": True}]}},
]  # fmt: skip
WRONG: list[Any] = [
    None, [], {}, {"predictions": None}, {"predictions": []}, {"predictions": [GOOD, GOOD]}, {"predictions": {"a": 1}},
    *({"predictions": [wrong]} for wrong in NO_PREDICTIONS),
]  # fmt: skip


@pytest.mark.parametrize("body", [b"", b"secret", b"\xff", b"[" * 9000, *(json.dumps(one).encode() for one in WRONG)])
def test_what_is_no_prediction_is_not_taken_for_one(body: bytes) -> None:
    script = Script(answer=lambda _: Response(200, content=body))
    with pytest.raises(UnexpectedAnswer, match="was answered, but not as an nlp_app server does: check base_url") as e:
        script.predict(["secret"])
    assert "secret" not in str(e.value)
    assert e.value.__context__ is None, "it may hold a text"


@pytest.mark.parametrize("trouble", [*sorted(BROKEN), HANGS, (503, None), (429, "99"), (422, None)])
@both
def test_no_message_holds_a_text_or_a_key(how: str, trouble: Trouble) -> None:
    script = Script([trouble] * 9)
    with pytest.raises(ServerError) as caught:
        script.predict(["secret"], how=how, api_key="secret", headers={"X-Tenant": "secret"}, retries=2)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None, "it may hold a text"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"base_url": url}, "base_url is no address of a server: write it as http://HOST:PORT") for url in (
            "", "localhost:8000", "ftp://localhost", "http://", "http://:80", "http://h:99999", "http://h:0",
            "http://h:x", "http://u:secret@h", "http://h?a", "http://h#a", "http://h/ a", "http://a..b", "http://[::1",
            1, None, b"http://h",
        )),
        *(({"model": name}, "must be the name of a model: GET /models lists them") for name in (
            "", ".", "..", "\n", 1, "\ud800"
        )),
        *(({"api_key": key}, "api_key is no key: it must be a str of printable ASCII") for key in (
            "", "sec ret", "secret\n", "secrét", 1
        )),
        *(({"timeout_s": value}, f"timeout_s is {value!r}, but must be a number of seconds above 0") for value in (
            0, -1, "secret", None, True, float("inf"), float("nan")
        )),
        ({"retries": -1}, "retries is -1, but must be a whole number of 0 or more"),
        ({"retries": True}, "retries is True, but must be a whole number of 0 or more"),
        ({"batch_size": 0}, "batch_size is 0, but must be a whole number of 1 or more"),
        ({"batch_size": 2.5}, "batch_size is 2.5, but must be a whole number of 1 or more"),
        *(({"headers": headers}, "is no header: its name and value must be printable ASCII") for headers in (
            {"": "a"}, {"a b": "a"}, {"a:": "a"}, {"a": "b\r\nc: d"}, {"a": " b"}, {"a": "é"}, {"a": 1}, {1: "a"}
        )),
    ],
)  # fmt: skip
def test_refuses_settings_that_break_a_rule(settings: dict[str, Any], message: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigError, match=re.escape(message)) as caught:
            kind(**{"base_url": URL, **settings})
        assert "secret" not in str(caught.value) or "timeout_s" in settings


def test_refuses_no_concurrency() -> None:
    with pytest.raises(ConfigError, match="concurrency is 0, but must be a whole number of 1 or more"):
        AsyncClient(URL, concurrency=0)


@pytest.mark.parametrize(
    ("texts", "more", "message"),
    [
        ("secret", {}, "texts is one str, but must be a list of str: write [text]"),
        (b"secret", {}, "texts is one bytes, but must be a list of str"),
        (None, {}, "texts is one NoneType, but must be a list of str"),
        (["a", 1], {}, "texts[1] is a int, but must be a str: convert it or leave it out"),
        (["a", "secret\ud800"], {}, "texts[1] holds half of a surrogate pair"),
        (["a"], {"top_k": 0}, "top_k is 0, but must be a whole number of 1 or more"),
        (["a"], {"top_k": "1"}, "top_k is '1', but must be a whole number of 1 or more"),
        (["a"], {"explain": 1}, "explain is 1, but must be True or False"),
    ],
)
@both
def test_refuses_arguments_before_anything_is_sent(how: str, texts: Any, more: dict[str, Any], message: str) -> None:
    script = Script()
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        script.predict(texts, how=how, batch_size=1, **more)
    assert script.requests == []
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None, "it may hold a text"


@both
def test_asks_as_the_server_wants_it(how: str) -> None:
    script = Script()
    settings = {
        "api_key": "k-1",
        "model": "a/b %é?",
        "headers": {"X-Tenant": "t", "content-type": "x", "AUTHORIZATION": "y"},
    }
    script.predict(iter(['snow "é" 𝄞', ""]), how=how, base_url="https://h:81/nlp/", top_k=3, explain=True, **settings)
    (request,) = script.requests
    assert str(request.url) == "https://h:81/nlp/models/a%2Fb%20%25%C3%A9%3F/predict"
    assert script.bodies() == [{"inputs": ['snow "é" 𝄞', ""], "top_k": 3, "explain": True}]
    sent = {name: request.headers.get_list(name) for name in ("Content-Type", "Authorization", "X-Tenant")}
    assert sent == {"Content-Type": ["application/json"], "Authorization": ["Bearer k-1"], "X-Tenant": ["t"]}


def test_without_a_model_or_a_key_it_names_none() -> None:
    script = Script()
    script.predict(["a"])
    assert str(script.requests[0].url) == f"{URL}/predict"
    assert "Authorization" not in script.requests[0].headers


@given(texts=st.lists(st.text('aé"\n𝄞', max_size=30), max_size=20), batch_size=st.integers(1, 6))
def test_no_request_is_larger_than_it_may_be(texts: list[str], batch_size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nlp_app.client.batches.MAX_TEXT_BYTES", 60)
        script = Script()
        script.predict(texts, batch_size=batch_size)
    batches = [body["inputs"] for body in script.bodies()]
    assert [text for batch in batches for text in batch] == texts

    def size(batch: list[str]) -> int:
        return len(json.dumps(batch, ensure_ascii=False, separators=(",", ":")).encode()) - len("[]")

    for batch, following in zip(batches, [*batches[1:], None], strict=False):
        assert len(batch) == 1 or size(batch) <= 60
        assert len(batch) <= batch_size
        if following is not None:  # no smaller than it must be
            assert len(batch) == batch_size or size([*batch, following[0]]) > 60


def test_a_request_for_explanations_holds_as_many_as_the_server_takes() -> None:
    script = Script()
    script.predict(["a"] * 70, explain=True)
    assert [len(body["inputs"]) for body in script.bodies()] == [32, 32, 6]
    script.predict(["a"] * 7, explain=True, batch_size=4)
    assert [len(body["inputs"]) for body in script.bodies()[3:]] == [4, 3]


def test_reads_all_that_a_prediction_may_have() -> None:
    """The fields are those of the predictor, without what a server does not tell."""
    whole = predictor.Prediction(
        label="a", score=0.75, scores=(predictor.LabelScore("a", 0.75), predictor.LabelScore("b", 1.0)),
        truncated=True, labels=("a", "b"), abstained=True, out_of_scope=True,
        explanation=Explanation("a", -1.5, (TokenContribution("x", 2, 3, 0.5),)),
    )  # fmt: skip
    plain = predictor.Prediction(label="a", score=0.75, scores=(), labels=())
    for one in (whole, plain):
        expected = asdict(one)
        del expected["familiarity"]
        assert asdict(read_prediction(json.loads(json.dumps(one.to_json())))) == expected
    assert [field.name for field in fields(Prediction)] == [field.name for field in fields(whole)][:-1]
    assert read_prediction(GOOD | {"labels": []}).labels == ()
    assert read_prediction(GOOD).labels is None


def test_an_answer_that_drips_ends_with_the_time() -> None:
    """Each part comes in time, but not the whole."""
    dripped: list[bytes] = []

    class Drip(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while len(dripped) < 1000:
                script.time.now += 1
                dripped.append(b" ")
                yield b" "

    script = Script(answer=lambda _: Response(200, stream=Drip()))
    with pytest.raises(ServerUnreachable, match="it did not answer in time"):
        script.predict(["a"], timeout_s=10)
    assert len(dripped) == 10


def test_an_answer_that_drips_ends_with_the_time_for_asyncio_too() -> None:
    class Drip(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0)
                yield b" "

    async def ask() -> None:
        transport = MockTransport(lambda _: Response(200, stream=Drip()))
        async with asyncio.timeout(30), AsyncClient(URL, transport=transport, timeout_s=0.05) as client:
            await client.predict(["a"])

    with pytest.raises(ServerUnreachable, match="it did not answer in time"):
        asyncio.run(ask())


def test_as_many_batches_are_on_their_way_as_may_be() -> None:
    """Each waits until three are there, and no more ever are; those of one call are answered in reverse."""
    on_their_way: list[int] = []
    most = []

    async def answer(request: Request) -> Response:
        number = int(json.loads(request.content)["inputs"][0])
        on_their_way.append(number)
        most.append(len(on_their_way))
        await barrier.wait()
        for _ in range(10 - number):
            await asyncio.sleep(0)
        on_their_way.remove(number)
        return echo(request)

    async def ask() -> list[list[Prediction]]:
        async with asyncio.timeout(30), AsyncClient(
            URL, concurrency=3, batch_size=1, transport=MockTransport(answer)
        ) as client:  # fmt: skip
            calls = [client.predict([str(number) for number in range(start, start + 6)]) for start in (0, 3)]
            return list(await asyncio.gather(*calls))

    barrier = asyncio.Barrier(3)
    first, second = asyncio.run(ask())
    assert max(most) == 3
    assert [one.label for one in first] == list("012345")
    assert [one.label for one in second] == list("345678")


def test_a_batch_that_fails_ends_the_others() -> None:
    ended = []

    async def answer(request: Request) -> Response:
        if json.loads(request.content)["inputs"] == ["bad"]:
            await asyncio.sleep(0)
            return Response(422, json={"detail": "inputs[0]: is bad"})
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(request)
        raise AssertionError

    async def ask() -> None:
        async with AsyncClient(URL, batch_size=1, transport=MockTransport(answer)) as client:
            await client.predict(["good", "bad", "good"])

    with pytest.raises(ServerRefused, match=r"with texts\[1:2\] was refused with 422: inputs\[0\]: is bad"):
        asyncio.run(ask())
    assert len(ended) == 2


INFO = {
    "model": {"name": "w", "version": "1"}, "labels": ["a", "b"], "limits": {"max_inputs": 3},
    "versions": {"python": "3"}, "metrics": {"validation": {}}, "more": 1,
}  # fmt: skip


def test_tells_what_is_served() -> None:
    script = Script([(503, "1"), "closed"], answer=lambda _: Response(200, json=INFO))
    with script.client(model="w") as client:
        info = client.info()
    assert (info.name, info.version, info.labels, info.limits["max_inputs"]) == ("w", "1", ("a", "b"), 3)
    assert [(one.method, one.url.path) for one in script.requests] == [("GET", "/models/w/info")] * 3
    script = Script(answer=lambda _: Response(200, json={**INFO, "labels": "ab"}))
    with script.client() as client, pytest.raises(UnexpectedAnswer, match=f"GET {URL}/info was answered, but not as"):
        client.info()


@pytest.mark.parametrize(("trouble", "expected"), [(None, True), ((503, "1"), False), ("refused", False)])
def test_asks_once_whether_a_server_answers(trouble: Trouble | None, expected: bool) -> None:
    script = Script([trouble] if trouble else [], answer=lambda _: Response(200, json={"status": "ready"}))

    async def ask() -> bool:
        async with AsyncClient(URL, transport=MockTransport(other), clock=other.time) as client:
            return await client.ready()

    other = Script([trouble] if trouble else [], answer=lambda _: Response(200, json={"status": "ready"}))
    with script.client(model="w") as client:
        assert (client.ready(), asyncio.run(ask())) == (expected, expected)
    assert [one.url.path for one in script.requests + other.requests] == ["/health/ready"] * 2


def test_a_server_that_lets_nobody_ask_is_not_unready() -> None:
    script = Script(answer=lambda _: Response(401, json={"detail": "send a key"}))
    with script.client() as client, pytest.raises(ServerRefused, match="send a key"):
        client.ready()


WHOLE = json.dumps({"predictions": [{**GOOD, "label": "real"}]}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(WHOLE)


@contextmanager
def connections(*answers: bytes) -> Iterator[str]:
    """A server that takes one connection for each answer, gives it and closes; its address."""

    def serve() -> None:
        for answer in answers:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as sent:
                while (line := sent.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        size = int(line.split(b":")[1])
                sent.read(size)
                connection.sendall(answer)

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@both
def test_connections_that_break_are_made_anew(how: str) -> None:
    """Nothing of an answer, half its head, half its body; then two that are kept open only by their words."""
    clock = Time()
    with connections(b"", HEAD[:30], HEAD + WHOLE[:9], HEAD + WHOLE, HEAD + WHOLE) as address:
        if how == "sync":
            with Client(address, sleep=clock.sleep) as client:
                found = client.predict(["a"]) + client.predict(["a"])
        else:

            async def ask() -> list[Prediction]:
                async with AsyncClient(address, sleep=clock.sleep_async) as client:
                    return await client.predict(["a"]) + await client.predict(["a"])

            found = asyncio.run(ask())
    assert [one.label for one in found] == ["real", "real"]
    assert 3 <= len(clock.waits) <= 4


@both
@pytest.mark.parametrize("drop", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X-Drop: 1\r\n"])
def test_a_head_that_drips_ends_with_the_time(how: str, drop: bytes) -> None:
    """Each drop comes in time, and the head never."""
    stopped = threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"" if b"100" in drop else b"HTTP/1.1 200 OK\r\n")
            for _ in range(200):
                connection.sendall(drop)
                if stopped.wait(0.05):
                    break

    async def ask_async() -> None:
        async with AsyncClient(address, timeout_s=0.3) as client:
            await client.predict(["a"])

    def ask() -> None:
        with Client(address, timeout_s=0.3) as client:
            client.predict(["a"])

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(ServerUnreachable, match="it did not answer in time"):
            ask() if how == "sync" else asyncio.run(ask_async())
        assert serving.is_alive()  # the head drips on
        stopped.set()
        serving.join()


def test_what_a_transport_raises_is_raised() -> None:
    """Though it is another thread that asks."""

    def fails(_: Request) -> Response:
        raise RecursionError("of a transport")

    with Client(URL, transport=MockTransport(fails)) as client, pytest.raises(RecursionError, match="of a transport"):
        client.predict(["a"])


@both
def test_says_where_nobody_listens(how: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    clock = Time()

    async def ask_async() -> None:
        async with AsyncClient(address, retries=2, sleep=clock.sleep_async) as client:
            await client.predict(["a"])

    def ask() -> None:
        with Client(address, retries=2, sleep=clock.sleep) as client:
            client.predict(["a"])

    with pytest.raises(ServerUnreachable, match=rf"^POST {address}/predict .* in 3 requests .*\(no connection: .+\)"):
        asyncio.run(ask_async()) if how == "async" else ask()
    assert len(clock.waits) == 2


def test_asks_a_real_server(shared_checkpoint: Path) -> None:
    weather = Predictor.load(shared_checkpoint)
    texts = ["", *TEXTS * 3, "Ice, ½ snow 𝄞"]

    def expected(**asked: Any) -> list[Prediction]:
        return [read_prediction(one.to_json()) for one in weather.predict(texts, **asked)]

    async def ask(address: str) -> list[Prediction]:
        async with AsyncClient(address, batch_size=3) as client:
            assert await client.ready()
            assert (await client.info()).labels == LABELS
            return await client.predict(texts, top_k=2)

    with server("--checkpoint", shared_checkpoint, "--max-inputs", 8) as (_, address), Client(
        address, batch_size=8, retries=10**6, sleep=lambda _: None
    ) as client:  # fmt: skip
        assert client.predict(texts) == expected()  # asked again for as long as the model is loaded
        assert client.ready()
        assert client.predict(texts, explain=True, top_k=3) == expected(explain=True, top_k=3)
        assert asyncio.run(ask(address)) == expected(top_k=2)
        info = client.info()
        assert (info.name, info.version) == ("weather", weather.checkpoint.version)
        assert (info.labels, info.limits["max_inputs"]) == (LABELS, 8)
        with Client(address, model="weather") as by_name:
            assert by_name.predict(texts[:8]) == expected()[:8]
            assert by_name.info() == info
        with (
            Client(address, model="../x") as stranger,
            pytest.raises(ServerRefused, match=r"%2Fx/predict with .* with 404"),
        ):
            stranger.predict(texts)
        with Client(address, batch_size=9) as greedy, pytest.raises(
            ServerRefused, match=r"with texts\[0:9\] was refused with 422: inputs: there are 9 texts, but .* may hold 8"
        ):  # fmt: skip
            greedy.predict(texts)


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True).stdout


def test_a_process_that_asks_needs_no_torch() -> None:
    program = (
        "import sys, httpx2, nlp_app.client as c\n"
        f"answer = lambda _: httpx2.Response(200, content={WHOLE!r})\n"
        "client = c.Client('http://h', transport=httpx2.MockTransport(answer))\n"
        "print(client.predict(['a'])[0].label, sorted({'torch', 'numpy', 'fastapi'} & set(sys.modules)))"
    )
    assert run(program) == "real []\n"


def test_who_does_not_ask_needs_no_httpx2() -> None:
    program = "import sys; sys.modules['httpx2'] = None\nimport nlp_app, nlp_app.errors as e\n"
    ask = f"{program}try: import nlp_app.client\nexcept e.ConfigError as error: print(error)"
    assert run(ask) == ("nlp_app.client needs the package httpx2, which is not there: pip install 'nlp_app[client]'\n")


def test_every_error_has_one_root_and_stands_in_the_tree() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, NlpAppError)]
    assert {ServerError, ServerRefused, ServerUnreachable, UnexpectedAnswer} < set(kinds)
    for kind in (ServerRefused, ServerUnreachable, UnexpectedAnswer):
        assert issubclass(kind, ServerError)
        assert kind.__name__ in (errors.__doc__ or "")
