"""Streams whose model fails or is replaced, whose clients leave, and what a stream refuses."""

import asyncio
import json
import logging
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import Message

from nlp_app import Predictor
from serving import Settings, create_app
from serving.answers import Answers
from serving.batching import Item
from serving.lines import LINES, batched
from tests.conftest import LABELS, write_checkpoint
from tests.test_serving_app import wait_until_loaded
from tests.test_serving_main import server, wait_until_ready
from tests.test_serving_models import swap

SNOW = b'{"inputs": "snow"}\n'
SLOW = b'{"inputs": "slow", "explain": true}\n'
"""Explained, so that the thread answers it and not the event loop."""
ICE = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["ice"]}


@pytest.fixture(scope="module")
def client(shared_checkpoint: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(checkpoint=shared_checkpoint))) as client:
        wait_until_loaded(client)
        yield client


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text at which the model fails."""
    classify = Predictor.classify

    def broken(self: Predictor, texts: Any, *rest: Any, **more: Any) -> Any:
        if "poison" in texts:
            raise RuntimeError("a text of a client\nINFO: forged")
        return classify(self, texts, *rest, **more)

    monkeypatch.setattr(Predictor, "classify", broken)


@pytest.mark.usefixtures("poison")
def test_only_texts_at_which_the_model_fails_are_not_answered(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [{"inputs": "poison" if number in (300, 302) else f"snow {number}"} for number in range(600)]
    body = "\n".join(map(json.dumps, [*lines[:301], {"inputs": 3}, *lines[302:]]))
    answers = [json.loads(line) for line in client.post("/predict/stream", content=body).text.splitlines()]
    assert [number for number, one in enumerate(answers) if "label" not in one] == [300, 301, 302]
    assert len(answers) == len(lines)
    detail = "the server failed at this request: its log says how"
    assert (answers[300], answers[302]) == ({"detail": detail}, {"detail": detail})
    assert answers[301]["detail"].startswith("line 302: inputs")
    assert [one.message for one in caplog.records if one.levelno == logging.ERROR] == ["a request failed"]


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/hf/weather", {"inputs": "poison"}, "error"),
        ("/v2/models/weather/infer", {"inputs": [ICE | {"data": ["poison"]}]}, "error"),
        ("/predict?usual=way", {"inputs": "poison"}, "detail"),
    ],
)
def test_a_failure_of_the_model_is_said_in_json(client: TestClient, path: str, body: object, key: str) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 500
    assert answer.json() == {key: "the server failed at this request: its log says how"}


class Exchange:
    """A request as an ASGI server hands it on, a part at a time."""

    def __init__(self, app: FastAPI, path: str, *, version: str = "1.1") -> None:
        self.sent: list[Message] = []
        self._parts: asyncio.Queue[Message] = asyncio.Queue()
        scope: dict[str, Any] = {
            "type": "http", "http_version": version, "method": "POST", "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": [], "scheme": "http", "client": None, "server": None, "root_path": "",
        }  # fmt: skip
        self._asked = self._given = 0
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        self._asked += 1
        return await self._parts.get()

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def send(self, body: bytes, *, more: bool = True) -> None:
        self._given += 1
        self._parts.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def taken(self) -> None:
        """Once the app has read all that was sent, and waits for more."""
        while self._asked <= self._given:
            await asyncio.sleep(0.001)

    def leave(self) -> None:
        self._parts.put_nowait({"type": "http.disconnect"})

    async def lines(self, count: int) -> list[dict[str, Any]]:
        """The answer, once it has so many lines."""
        while (found := b"".join(one.get("body", b"") for one in self.sent)).count(b"\n") < count:
            assert not self.task.done()
            await asyncio.sleep(0.001)
        return [json.loads(line) for line in found.splitlines()]

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and body, once they are whole."""
        await asyncio.wait_for(self.task, 20)
        return self.sent[0]["status"], json.loads(b"".join(one.get("body", b"") for one in self.sent))


@asynccontextmanager
async def running(checkpoint: Path, **values: Any) -> AsyncIterator[FastAPI]:
    """An app in this event loop, once it answers."""
    app = create_app(Settings(checkpoint=checkpoint, **values))
    async with app.router.lifespan_context(app):
        while not app.state.models.default.current.ready:
            await asyncio.sleep(0.001)
        yield app


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    served = write_checkpoint(tmp_path / "weather")
    return served, write_checkpoint(tmp_path / "new", labels=("a", "b", "c"))


def test_a_line_names_the_version_that_answered_it(folders: tuple[Path, Path]) -> None:
    served, new = folders

    async def main() -> None:
        async with running(served) as app:
            slot = app.state.models.default
            versions = [slot.current.version]
            stream = Exchange(app, "/predict/stream")
            stream.send(SNOW + b"{\n")
            first, fault = await stream.lines(2)
            swap(served, new)
            assert await slot.reload() is None
            versions.append(slot.current.version)
            stream.send(SNOW, more=False)
            *_, last = await stream.lines(3)
            assert [first["version"], last["version"]] == versions
            assert [first["label"] in LABELS, last["label"] in ("a", "b", "c")] == [True, True]
            assert "version" not in fault
            assert versions[0] != versions[1]
            await asyncio.wait_for(stream.task, 20)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/models/weather/versions/{}/predict", b'{"inputs": "snow"}', "detail"),
        ("/v2/models/weather/versions/{}/infer", json.dumps({"inputs": [ICE]}).encode(), "error"),
    ],
)
def test_a_version_that_a_path_names_is_never_answered_by_another(
    folders: tuple[Path, Path], path: str, body: bytes, key: str
) -> None:
    """It is replaced after the headers and before the body."""
    served, new = folders

    async def main() -> None:
        async with running(served) as app:
            slot = app.state.models.default
            path_of_old = path.format(slot.version)
            whole = Exchange(app, path_of_old)
            whole.send(body, more=False)
            assert (await whole.answer())[0] == 200
            late = Exchange(app, path_of_old)
            late.send(body[:5])
            await late.taken()
            swap(served, new)
            assert await slot.reload() is None
            late.send(body[5:], more=False)
            status, found = await late.answer()
            assert (status, list(found)) == (404, [key])
            assert "there is no model of that name and version" in found[key]

    asyncio.run(main())


@pytest.mark.parametrize("cancelled", [False, True])
def test_where_a_client_leaves_its_texts_are_not_computed(
    shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """The first batch hangs, and two more groups wait; where it is cancelled, so does the reader with more."""
    hangs, go = threading.Event(), threading.Event()
    seen: list[str] = []
    answer = Answers.answer

    def hanging(self: Answers, items: list[Item]) -> list[bytes]:
        seen.extend(item.text for item in items)
        if items[0].text == "slow":
            hangs.set()
            go.wait(20)
        return answer(self, items)

    async def main() -> None:
        async with running(shared_checkpoint) as app:
            monkeypatch.setattr(Answers, "answer", hanging)
            stream = Exchange(app, "/predict/stream")
            stream.send(SLOW)
            while not hangs.is_set():
                await asyncio.sleep(0.001)
            for _ in range(9 if cancelled else 2):
                stream.send(SLOW.replace(b"slow", b"snow") * 256)
            stream.send(b"", more=False)
            while app.state.models.default.current.waiting < 1 + 2 * 256:
                await asyncio.sleep(0.001)
            if cancelled:
                stream.task.cancel()
            else:
                stream.leave()
            await asyncio.wait([stream.task], timeout=20)
            await asyncio.sleep(0)
            assert app.state.models.default.current.waiting == 0
            go.set()
            assert "snow" not in seen
            assert [one for one in asyncio.all_tasks() if "_read_all" in str(one)] == []

    try:
        asyncio.run(main())
    finally:
        go.set()


def test_a_stream_heeds_how_long_its_client_waits(
    client: TestClient, shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = client.post("/predict/stream", content=SNOW, headers={"X-Request-Timeout-Ms": "foo"})
    assert wrong.status_code == 422
    assert "X-Request-Timeout-Ms must be a whole number" in wrong.json()["detail"]
    go = threading.Event()
    answer = Answers.answer

    def slow(self: Answers, items: list[Item]) -> list[bytes]:
        if items[0].text == "slow":
            go.wait(20)
        return answer(self, items)

    monkeypatch.setattr(Answers, "answer", slow)
    try:
        late = client.post("/predict/stream", content=SLOW, headers={"X-Request-Timeout-Ms": "50"})
    finally:
        go.set()
    assert json.loads(late.text)["detail"].startswith("the texts were not answered in time")


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/predict/stream", "application/x-ndjson", 200),
        ("/predict/stream", "text/plain; charset=utf-8", 200),
        ("/predict/stream", "text/plain; charset=utf-16", 415),
        ("/predict/stream", "image/png", 415),
        ("/models/weather/predict/stream", "application/json", 200),
        ("/hf/weather", 'Application/JSON; charset="UTF-8"', 200),
        ("/hf/weather", "text/plain", 415),
        ("/hf/weather", "application/json; charset=utf-16", 415),
        ("/v2/models/weather/infer", "application/json", 200),
        ("/v2/models/weather/infer", "application/octet-stream", 200),
        ("/v2/models/weather/infer", "image/png", 415),
        ("/v2/models/weather/infer", "", 415),
    ],
)
def test_a_body_of_another_type_is_refused(client: TestClient, path: str, kind: str, status: int) -> None:
    body = json.dumps({"inputs": [ICE]}) if path.startswith("/v2") else '{"inputs": "ice"}'
    answer = client.post(path, content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    if status == 415:
        assert list(answer.json()) == ["detail" if "stream" in path else "error"]
        assert "the content type must be application/" in answer.text


def test_a_client_of_http_1_0_is_sent_no_chunks(shared_checkpoint: Path) -> None:
    with server("--checkpoint", shared_checkpoint) as (_, address):
        wait_until_ready(address)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as file:
            connection.sendall(b"POST /predict/stream HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(SNOW) + SNOW)
            answer = file.read()
    assert answer.startswith(b"HTTP/1.1 505 ")
    assert b"transfer-encoding" not in answer.lower()
    assert answer.endswith(b'{"detail":"a stream is answered in chunks, which HTTP/1.0 has not: ask in HTTP/1.1"}')


def test_the_lines_of_a_part_are_looked_at_a_batch_at_a_time() -> None:
    """A part of a socket may hold 262,144 line ends; to split it at once held the event loop for 13 ms."""
    part = b"\n" * 262_144
    tracemalloc.start()
    try:
        found = next(batched(part))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [b""] * LINES
    assert peak < 65_536
    assert list(batched(b"a\n\nbc\nd")) == [[b"a", b"", b"bc"]]
    assert [len(lines) for lines in batched(b"a\n" * 600)] == [256, 256, 88]
    assert list(batched(b"a")) == []
