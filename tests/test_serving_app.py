import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nlp_app import Predictor
from nlp_app.errors import CheckpointError, NlpAppError
from serving import Settings, create_app, requests
from serving.answers import Answers
from serving.batching import HOLD_S, Item, weight
from serving.inference import Inference
from serving.logs import Lines
from serving.problems import Refused
from serving.requests import declared
from serving.schemas import PredictRequest, PredictResponse
from tests.conftest import LABELS, TEXTS


def settings(checkpoint: Path, **values: Any) -> Settings:
    return Settings(checkpoint=checkpoint, **values)


def wait_until_loaded(client: TestClient) -> None:
    while client.get("/health/ready").status_code == 503:
        assert client.app.state.models.default.current.failure is None  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def client(shared_checkpoint: Path) -> Iterator[TestClient]:
    limits = {"max_inputs": 8, "max_explained": 4, "max_characters": 500, "max_body_bytes": 4000}
    with TestClient(create_app(settings(shared_checkpoint, **limits))) as client:
        wait_until_loaded(client)
        yield client


@pytest.fixture(scope="module")
def weather(shared_checkpoint: Path) -> Predictor:
    return Predictor.load(shared_checkpoint)


def post(client: TestClient, body: bytes | str, **headers: str) -> Response:
    content = body if isinstance(body, bytes) else body.encode()
    return client.post("/predict", content=content, headers={"Content-Type": "application/json", **headers})


def detail(response: Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"detail"}
    found: str = response.json()["detail"]
    assert "\n" not in found
    return found


def test_answers_one_text(client: TestClient, weather: Predictor) -> None:
    (expected,) = weather.predict(["ice and snow"])
    body = client.post("/predict", json={"inputs": "ice and snow"}).json()
    assert body == {
        "predictions": [expected.to_json()],
        "model": {"name": "weather", "version": weather.checkpoint.version},
    }


@pytest.mark.parametrize("top_k", [1, 2, 99])
def test_answers_a_list_in_order(client: TestClient, weather: Predictor, top_k: int) -> None:
    answers = client.post("/predict", json={"inputs": TEXTS, "top_k": top_k}).json()["predictions"]
    for answer, expected in zip(answers, weather.predict(TEXTS, top_k), strict=True):
        assert answer["label"] == expected.label
        assert answer["score"] == pytest.approx(expected.score, abs=1e-5)
        assert [item["label"] for item in answer["scores"]] == [item.label for item in expected.scores]


def test_explains_where_it_is_asked_to(client: TestClient, weather: Predictor) -> None:
    answer = client.post("/predict", json={"inputs": ["Ice, snow", ""], "explain": True}).json()
    assert answer["predictions"] == [one.to_json() for one in weather.predict(["Ice, snow", ""], explain=True)]
    first, blank = (one.explanation for one in PredictResponse.model_validate(answer, strict=True).predictions)
    assert first is not None
    assert [(token.token, token.start, token.end) for token in first.tokens] == [
        ("Ice", 0, 3), (",", 3, 4), ("snow", 5, 9)
    ]  # fmt: skip
    assert blank is not None
    assert blank.tokens == []
    plain = client.post("/predict", json={"inputs": "Ice", "explain": False}).json()["predictions"][0]
    assert set(plain) == {"label", "score", "scores"}


def test_explains_only_so_many_texts_at_once(client: TestClient) -> None:
    """128 long ones would keep everybody else waiting for five seconds."""
    body = {"inputs": ["snow"] * 5, "explain": True}
    assert detail(client.post("/predict", json=body), 422) == (
        "inputs: there are 5 texts, but a request with explain may hold 4: send several requests, or leave explain out"
    )
    assert client.post("/predict", json={**body, "inputs": ["snow"] * 4}).status_code == 200
    assert client.post("/predict", json={**body, "inputs": "five words are one text"}).status_code == 200
    assert client.post("/predict", json={**body, "explain": False}).status_code == 200


def test_answers_blank_texts_and_empty_lists(client: TestClient) -> None:
    assert client.post("/predict", json={"inputs": ""}).json()["predictions"][0]["label"] in LABELS
    assert client.post("/predict", json={"inputs": []}).json()["predictions"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"inputs": [1, ', "inputs[0]: must be a string"),
        ('{"inputs": ["x", [', "inputs[1]: must be a string"),
        ('{"inputs": "x", "k": [[[', "has a field other than inputs"),
        ("[[[", 'the body: must be an object such as {"inputs": "a text"}'),
    ],
)
def test_a_body_is_read_up_to_its_first_fault(client: TestClient, body: str, message: str) -> None:
    """A million empty lists would hold the event loop for half a second: what comes after a fault is not looked at."""
    assert message in detail(post(client, body), 422)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=2),
    max_leaves=5,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "inputs": json_values | st.text() | st.lists(st.text() | json_values, max_size=4),
        "top_k": json_values | st.integers(0, 3),
        "explain": json_values | st.booleans(),
        "more": json_values,
    },
)


@given(body=bodies | json_values)
@hypothesis.settings(max_examples=1000)
def test_what_is_read_is_what_the_openapi_document_says(body: Any) -> None:
    """schemas.PredictRequest describes the body, requests.Asked reads it."""
    content = json.dumps(body).encode()
    limits = Settings(checkpoint=Path("x"))
    try:
        described = PredictRequest.model_validate_json(content)
    except ValidationError:
        with pytest.raises(Refused) as refused:
            requests.read_items(content, limits)
        assert refused.value.status == 422
    else:
        texts = [described.inputs] if isinstance(described.inputs, str) else described.inputs
        expected = [Item(text, described.top_k, described.explain) for text in texts]
        assert requests.read_items(content, limits) == expected


@pytest.mark.parametrize("value", ["charset=utf-8; x=y", "charset=UTF-8", 'charset="utf-8"', "x=y"])
def test_takes_parameters_of_the_content_type(client: TestClient, value: str) -> None:
    headers = {"Content-Type": f"application/json; {value}"}
    assert post(client, '{"inputs": "snow"}', **headers).status_code == 200


def test_a_load_that_fails_in_any_way_is_told(shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> Predictor:
        raise MemoryError("all gone")

    monkeypatch.setattr(Predictor, "load", failing)
    failures: list[NlpAppError] = []
    with TestClient(create_app(settings(shared_checkpoint), on_failure=failures.append)) as client:
        while not failures:
            client.get("/health/live")
        assert "the model cannot be loaded (MemoryError: all gone)" in detail(client.get("/health/ready"), 503)


def test_says_where_a_text_was_cut(client: TestClient) -> None:
    cut, whole = client.post("/predict", json={"inputs": ["snow " * 40, "snow"]}).json()["predictions"]
    assert cut["truncated"] is True
    assert "truncated" not in whole


def test_labels_may_hold_any_character(tmp_path: Path) -> None:
    from tests.conftest import write_checkpoint

    checkpoint = write_checkpoint(tmp_path / "m", labels=("日本", 'a "quote"', "\u2028"))
    with TestClient(create_app(settings(checkpoint))) as client:
        wait_until_loaded(client)
        scores = client.post("/predict", json={"inputs": "x", "top_k": 3}).json()["predictions"][0]["scores"]
    assert {item["label"] for item in scores} == {"日本", 'a "quote"', "\u2028"}


def test_health_and_info(client: TestClient, weather: Predictor) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}
    info = client.get("/info").json()
    assert info["model"] == {"name": "weather", "version": weather.checkpoint.version}
    assert info["labels"] == list(LABELS)
    assert info["limits"] == {
        "max_inputs": 8, "max_explained": 4, "max_characters": 500, "max_body_bytes": 4000, "max_length": 32
    }  # fmt: skip
    assert info["metrics"] == weather.checkpoint.metrics
    assert {"nlp_app", "python", "torch", "tokenizers", "fastapi"} <= set(info["versions"])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("not json", 400, "the body is not JSON"),
        ("", 400, "the body is not JSON"),
        (b'{"inputs": "\xff"}', 400, "the body is not JSON"),
        (b'\xff\xfe{"inputs": 1}', 400, "the body is not JSON"),
        ('{"inputs": "x"', 400, "the body is not JSON"),
        ('{"inputs": "\\ud800"}', 400, "the body is not JSON"),
        ('{"inputs": ["ok", "\\udc00 tail"]}', 400, "the body is not JSON"),
        ("[" * 2000, 422, "the body: must be an object"),
        ('{"inputs": ' + "[" * 1500 + "]" * 1500 + "}", 422, "inputs[0]: must be a string"),
        ('{"inputs": "x", "top_k": NaN}', 400, "the body is not JSON"),
        ('{"inputs": "x", "top_k": Infinity}', 400, "the body is not JSON"),
        ('{"inputs": NaN}', 400, "the body is not JSON"),
        ('{"inputs": "x", "top_k": 0}', 422, "top_k: must be 1 or more"),
        ('{"inputs": "x", "top_k": 1.5}', 422, "top_k: must be a whole number"),
        ('{"inputs": "x", "top_k": "2"}', 422, "top_k: must be a whole number"),
        ('{"inputs": "x", "top_k": true}', 422, "top_k: must be a whole number"),
        ('{"inputs": "x", "top_k": 1e400}', 422, "top_k: must be a whole number"),
        ('{"inputs": "x", "explain": 1}', 422, "explain: must be true or false"),
        ('{"inputs": "x", "explain": "true"}', 422, "explain: must be true or false"),
        ('{"inputs": "x", "explain": null}', 422, "explain: must be true or false"),
        ('{"inputs": 3}', 422, "inputs: must be a string or a list of strings"),
        ('{"inputs": null}', 422, "inputs: must be a string or a list of strings"),
        ('{"inputs": {"a": 1}}', 422, "inputs: must be a string or a list of strings"),
        ('{"inputs": ["a", 3]}', 422, "inputs[1]: must be a string"),
        ('{"inputs": ["a", ["b"]]}', 422, "inputs[1]: must be a string"),
        ('{"text": "x"}', 422, "the body has a field other than inputs, top_k and explain: leave it out"),
        ("{}", 422, "inputs: is missing"),
        ('{"inputs": "x", "topk": 3}', 422, "the body has a field other than inputs, top_k and explain: leave it out"),
        ("[]", 422, 'the body: must be an object such as {"inputs": "a text"}'),
        ("null", 422, "the body: must be an object"),
        ('"x"', 422, "the body: must be an object"),
        ("NaN", 400, "the body is not JSON"),
        (json.dumps({"inputs": ["x"] * 9}), 422, "inputs: there are 9 texts, but a request may hold 8"),
        (json.dumps({"inputs": "x" * 501}), 422, "inputs: the text has 501 characters, but may have 500"),
        (json.dumps({"inputs": ["x", "y" * 501]}), 422, "inputs[1]: the text has 501 characters, but may have 500"),
        (json.dumps({"inputs": "x" * 5000}), 413, "the body is larger than 4,000 bytes: send fewer or shorter texts"),
    ],
)
def test_refuses_broken_bodies(client: TestClient, body: bytes | str, status: int, message: str) -> None:
    assert message in detail(post(client, body), status)


def test_a_top_k_of_400_digits_is_clamped(client: TestClient) -> None:
    answer = post(client, '{"inputs": "x", "top_k": ' + "9" * 400 + "}")
    assert len(answer.json()["predictions"][0]["scores"]) == len(LABELS)


def test_a_text_with_nul_bytes_is_a_text(client: TestClient) -> None:
    assert post(client, '{"inputs": "a\\u0000b"}').status_code == 200


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, "send the header Content-Type: application/json"),
        ({"Content-Type": "text/plain"}, "the content type must be application/json in UTF-8"),
        ({"Content-Type": "application/json; charset=latin-1"}, "the content type must be application/json in UTF-8"),
        ({"Content-Encoding": "gzip"}, "the body is compressed: send it as it is, without Content-Encoding"),
    ],
)
def test_refuses_other_types_and_encodings(client: TestClient, headers: dict[str, str], message: str) -> None:
    assert message in detail(post(client, '{"inputs": "x"}', **headers), 415)


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"']
)
def test_takes_json_however_it_is_spelt(client: TestClient, kind: str) -> None:
    assert post(client, '{"inputs": "x"}', **{"Content-Type": kind}).status_code == 200


def test_refuses_a_body_of_10_mb_however_it_is_sent(client: TestClient) -> None:
    chunk = b"x" * 1_000_000
    declared = client.post("/predict", content=chunk * 10, headers={"Content-Type": "application/json"})
    assert "the body is larger than 4,000 bytes" in detail(declared, 413)
    pieces = client.post("/predict", content=iter([chunk] * 10), headers={"Content-Type": "application/json"})
    assert "the body is larger than 4,000 bytes" in detail(pieces, 413)


def test_an_unknown_path_or_method_is_a_404_or_405(client: TestClient) -> None:
    assert detail(client.get("/nothing"), 404) == "Not Found"
    assert detail(client.get("/predict"), 405) == "Method Not Allowed"
    assert client.get("/predict").headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404), ("POST", "/v2", 405), ("GET", "/v2/models/weather/infer", 405),
        ("GET", "/hf", 404), ("GET", "/hf/weather", 405), ("GET", "/hf/a/b", 404),
    ],
)  # fmt: skip
def test_other_systems_are_told_in_their_words(client: TestClient, method: str, path: str, status: int) -> None:
    refused = client.request(method, path)
    assert (refused.status_code, list(refused.json())) == (status, ["error"])


@pytest.mark.parametrize("path", ["/predict/", "/v2/", "/models/weather/predict/", "/hf/weather/"])
def test_nobody_is_sent_elsewhere(client: TestClient, path: str) -> None:
    """The address would be of the Host that the client says."""
    refused = client.post(path, json={"inputs": "x"}, headers={"Host": "elsewhere"}, follow_redirects=False)
    assert refused.status_code == 404
    assert "location" not in refused.headers


def test_openapi_tells_the_request_the_answers_and_examples(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"inputs", "top_k", "explain"}
    assert {"inputs": "where is my parcel?"} in body["examples"]
    assert {"200", "400", "413", "415", "422", "503"} <= set(operation["responses"])
    schema = client.get("/openapi.json").json()["components"]["schemas"]["PredictResponse"]
    assert schema["examples"][0]["predictions"][0]["label"] == "order_status"


def test_docs_load_nothing_from_another_host(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "https://" not in page
    script = next(part for part in page.split('"') if part.endswith("swagger-ui-bundle.js"))
    assert client.get(script).status_code == 200


class SlowInference(Inference):
    """Loads when it is told to."""

    go = threading.Event()

    def _load(self) -> Answers:
        self.go.wait()
        return super()._load()


def test_is_live_but_not_ready_while_the_model_loads(shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SlowInference.go = threading.Event()
    monkeypatch.setattr("serving.models.Inference", SlowInference)
    with TestClient(create_app(settings(shared_checkpoint))) as client:
        assert client.get("/health/live").status_code == 200
        for response in (
            client.get("/health/ready"),
            client.get("/info"),
            client.post("/predict", json={"inputs": "x"}),
        ):
            assert detail(response, 503) == "the model is still loading: ask again in a second"
            assert response.headers["Retry-After"] == "1"
        SlowInference.go.set()
        wait_until_loaded(client)
        assert client.post("/predict", json={"inputs": "x"}).status_code == 200


def test_is_never_ready_where_the_golden_inputs_are_answered_wrongly(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> None:
        raise CheckpointError("another answer")

    monkeypatch.setattr("nlp_app.contents.check_golden", wrong)
    failures: list[NlpAppError] = []
    with TestClient(create_app(settings(checkpoint), on_failure=failures.append)) as client:
        while not failures:
            assert client.get("/health/ready").status_code == 503
        assert "does not answer its golden inputs" in detail(client.get("/health/ready"), 503)
        assert client.get("/health/live").status_code == 200


def test_what_takes_long_is_not_computed_on_the_event_loop(
    shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[int, set[str]] = {}
    classify = Predictor.classify

    def watched(self: Predictor, texts: Any, encoded: Any, top_k: int = 1, **rest: Any) -> Any:
        threads.setdefault(len(texts), set()).add(threading.current_thread().name.partition("_")[0])
        return classify(self, texts, encoded, top_k, **rest)

    with TestClient(create_app(settings(shared_checkpoint))) as client:
        wait_until_loaded(client)
        monkeypatch.setattr(Predictor, "classify", watched)
        client.app.state.models.default.current._batcher.model.call_s = 0.0  # type: ignore[attr-defined]
        monkeypatch.setattr(Answers, "seconds", lambda self, item: 0.0)
        client.post("/predict", json={"inputs": ["x"] * 2})
        monkeypatch.setattr(Answers, "seconds", lambda self, item: HOLD_S / 2)
        client.post("/predict", json={"inputs": ["x"] * 5})
    assert threads[5] == {"inference"}
    assert len(threads[2]) == 1
    assert threads[2] != {"inference"}


def hold_until(monkeypatch: pytest.MonkeyPatch, done: threading.Event, busy: threading.Event | None = None) -> None:
    """Let no prediction be made before done; busy tells that one waits."""
    classify = Predictor.classify

    def held(self: Predictor, texts: Any, encoded: Any, top_k: int = 1, **rest: Any) -> Any:
        if busy is not None:
            busy.set()
        done.wait()
        return classify(self, texts, encoded, top_k, **rest)

    monkeypatch.setattr(Predictor, "classify", held)


def test_the_loop_answers_while_the_model_computes(shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, done = threading.Event(), threading.Event()

    with TestClient(create_app(settings(shared_checkpoint))) as client:
        wait_until_loaded(client)
        hold_until(monkeypatch, done, busy)
        monkeypatch.setattr(Answers, "seconds", lambda self, item: 2 * HOLD_S)
        caller = threading.Thread(target=lambda: client.post("/predict", json={"inputs": "x"}))
        caller.start()
        busy.wait()
        assert client.get("/health/live").status_code == 200
        done.set()
        caller.join()


def test_building_an_app_reads_nothing(tmp_path: Path) -> None:
    create_app(settings(tmp_path / "absent"))


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, shared_checkpoint: Path) -> None:
    monkeypatch.setenv("NLP_APP_CHECKPOINT", str(shared_checkpoint))
    monkeypatch.setenv("NLP_APP_NAME", "forecast")
    monkeypatch.setenv("NLP_APP_MAX_INPUTS", "2")
    with TestClient(create_app()) as client:
        wait_until_loaded(client)
        assert client.post("/predict", json={"inputs": ["x", "y"]}).json()["model"]["name"] == "forecast"
        assert client.post("/predict", json={"inputs": ["x", "y", "z"]}).status_code == 422


def test_a_request_whose_time_has_passed_is_not_answered(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.inference.HUNG_S", 1e9)
    monkeypatch.setattr(Answers, "seconds", lambda self, item: 2 * HOLD_S)  # so the thread is asked
    asked: list[str] = []
    classify = Predictor.classify

    def slow(self: Predictor, texts: Any, encoded: Any, top_k: int = 1, **rest: Any) -> Any:
        asked.extend(texts)
        if texts != [""]:
            gone.wait()
        return classify(self, texts, encoded, top_k, **rest)

    monkeypatch.setattr(Predictor, "classify", slow)
    gone = threading.Event()
    late = client.post("/predict", json={"inputs": "late"}, headers={"X-Request-Timeout-Ms": "50"})
    assert "were not answered in time" in detail(late, 504)
    waiting = client.post("/predict", json={"inputs": "never"}, headers={"X-Request-Timeout-Ms": "1"})
    assert waiting.status_code == 504
    gone.set()
    assert client.post("/predict", json={"inputs": "now"}).status_code == 200
    assert "never" not in asked


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "٣"])
def test_a_timeout_is_a_whole_number(client: TestClient, value: str) -> None:
    headers = {"X-Request-Timeout-Ms": value.encode(), "Content-Type": b"application/json"}
    refused = client.post("/predict", content=b'{"inputs": "x"}', headers=headers)  # type: ignore[arg-type]
    assert "X-Request-Timeout-Ms must be a whole number" in detail(refused, 422)


def test_more_texts_than_may_wait_are_refused(shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr("serving.inference.HUNG_S", 1e9)
    with TestClient(create_app(settings(shared_checkpoint, max_waiting=3))) as client:
        wait_until_loaded(client)
        hold_until(monkeypatch, done)
        monkeypatch.setattr(Answers, "seconds", lambda self, item: 2 * HOLD_S)
        answers: list[int] = []
        caller = threading.Thread(
            target=lambda: answers.append(client.post("/predict", json={"inputs": ["x"] * 3}).status_code)
        )
        caller.start()
        try:
            while client.app.state.models.default.current._batcher.waiting < 3:  # type: ignore[attr-defined]
                assert caller.is_alive()
            refused = client.post("/predict", json={"inputs": "x"})
        finally:
            done.set()
            caller.join()
        assert "more texts are waiting than may" in detail(refused, 429)
        assert refused.headers["Retry-After"] == "1"
        assert answers == [200]
        assert client.post("/predict", json={"inputs": "x"}).status_code == 200


def test_a_model_that_hangs_is_not_ready_and_then_not_live(
    shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    monkeypatch.setattr("serving.inference.PULSE_S", 0.01)
    with TestClient(create_app(settings(shared_checkpoint))) as client:
        wait_until_loaded(client)
        monkeypatch.setattr("serving.inference.HUNG_S", 0.05)
        hold_until(monkeypatch, done)
        while client.get("/health/ready").status_code == 200:  # nobody asks anything: the server does
            pass
        assert "the model does not answer" in detail(client.get("/health/ready"), 503)
        assert "the model does not answer" in detail(client.post("/predict", json={"inputs": "x"}), 503)
        assert client.get("/health/live").status_code == 200
        monkeypatch.setattr("serving.inference.LOST_S", 0.06)
        while client.get("/health/live").status_code == 200:
            pass
        assert "start the server again" in detail(client.get("/health/live"), 503)
        done.set()
        while client.get("/health/ready").status_code == 503:
            pass
        assert client.get("/health/live").status_code == 200


def test_a_model_that_fails_is_not_ready_and_then_not_live(
    shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("serving.inference.PULSE_S", 0.01)
    with TestClient(create_app(settings(shared_checkpoint))) as client:
        wait_until_loaded(client)
        with monkeypatch.context() as broken_model:
            broken_model.setattr(Predictor, "classify", broken)
            while client.get("/health/ready").status_code == 200:
                pass
            assert "the model fails" in detail(client.get("/health/ready"), 503)
            assert "the model fails" in detail(client.post("/predict", json={"inputs": "x"}), 503)
            assert client.get("/health/live").status_code == 200
            monkeypatch.setattr("serving.inference.LOST_S", 0.05)
            while client.get("/health/live").status_code == 200:
                pass
        while client.get("/health/ready").status_code == 503:
            pass
        assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize("path", ["/predict%0A", "/predict/x", "//predict"])
def test_no_other_path_is_taken_for_predict(client: TestClient, path: str) -> None:
    assert client.post(path, json={"inputs": "x"}).status_code == 404


def test_one_call_answers_whatever_the_requests_ask(
    shared_checkpoint: Path, weather: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred requests with a hundred top_k would be a hundred calls, for which the event loop would wait."""
    asked: list[int] = []
    classify = Predictor.classify

    def watched(self: Predictor, texts: Any, encoded: Any, top_k: int = 1, **rest: Any) -> Any:
        asked.append(top_k)
        return classify(self, texts, encoded, top_k, **rest)

    answers = Answers(predictor=weather)
    monkeypatch.setattr(Predictor, "classify", watched)
    found = [json.loads(one) for one in answers.answer([Item("snow", top_k) for top_k in (2, 1, 1000)])]
    assert asked == [len(LABELS)]
    assert [len(one["scores"]) for one in found] == [2, 1, len(LABELS)]


def test_what_takes_longer_is_estimated_to(weather: Predictor) -> None:
    answers = Answers(predictor=weather)
    plain, ideographs = Item("x" * 100), Item("雪" * 100)
    assert weight(ideographs) == 7 * weight(plain)
    assert answers.seconds(Item("x", 3)) > answers.seconds(Item("x"))
    assert answers.seconds(Item("x", 1, explain=True)) == float("inf")


def test_a_timeout_may_have_zeros_before_it(client: TestClient) -> None:
    for value in ("0000000000030000", "9" * 40):
        assert client.post("/predict", json={"inputs": "x"}, headers={"X-Request-Timeout-Ms": value}).status_code == 200


@pytest.mark.parametrize(("path", "key"), [("/models", "detail"), ("/v2/models/weather", "error")])
def test_what_nobody_foresaw_is_a_500_that_is_counted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, key: str
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret text")

    app: Any = client.app
    before = app.state.measures.requests[500]
    monkeypatch.setattr("serving.models.Models.__iter__", broken)
    monkeypatch.setattr("serving.models.Models.find", broken)
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (500, {key: "the server failed at this request: its log says how"})
    assert app.state.measures.requests[500] == before + 1


@pytest.mark.parametrize(
    ("length", "expected"), [(b"14", 14), (b"0" * 5000 + b"14", 14), (b"9" * 5000, 10**20 - 1), (b"-1", 0), (b"", 0)]
)
def test_a_length_of_any_length_is_read(length: bytes, expected: int) -> None:
    assert declared({b"content-length": length}) == expected


def test_requests_for_health_are_not_counted(client: TestClient) -> None:
    app: Any = client.app
    before = app.state.measures.requests.total()
    assert client.get("/health/live").status_code == client.get("/v2/health/live").status_code == 200
    assert app.state.measures.requests.total() == before
    client.get("/info")
    assert app.state.measures.requests.total() == before + 1


ORIGIN = {"Origin": "https://a.example"}
PREFLIGHT = {**ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Key"}


def test_pages_of_other_origins_may_not_ask_unless_they_are_named(shared_checkpoint: Path, client: TestClient) -> None:
    assert client.options("/predict", headers=PREFLIGHT).status_code == 405
    assert "access-control-allow-origin" not in client.post("/predict", json={"inputs": "x"}, headers=ORIGIN).headers
    origins = "https://a.example, http://localhost:3000"
    hashed = "sha256:" + "0" * 64
    with TestClient(create_app(settings(shared_checkpoint, cors_origins=origins, api_keys=hashed))) as client:
        wait_until_loaded(client)
        allowed = client.options("/predict", headers=PREFLIGHT)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        assert client.options("/predict", headers=PREFLIGHT | {"Origin": "https://b.example"}).status_code == 400
        refused = client.post("/predict", json={"inputs": "x"}, headers=ORIGIN)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://a.example"
        assert "X-Request-Id" in refused.headers["access-control-expose-headers"]


@pytest.mark.parametrize("value", ["a.example", "https://a.example/", "https://a.example/b", "https://", "null"])
def test_what_no_browser_sends_is_no_origin(shared_checkpoint: Path, value: str) -> None:
    with pytest.raises(ValidationError, match="is no origin: write https://HOST"):
        settings(shared_checkpoint, cors_origins=f"https://b.example,{value}")


@pytest.mark.parametrize("asked", [False, True])
def test_texts_stand_in_the_log_only_where_that_is_asked_for(
    shared_checkpoint: Path, caplog: pytest.LogCaptureFixture, asked: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    text = "snow\nERROR: forged \u2028 \U0001f600"
    with TestClient(create_app(settings(shared_checkpoint, log_texts=asked, access_log=True))) as client:
        wait_until_loaded(client)
        found = client.post("/predict", json={"inputs": [text, "ice"]}).json()["predictions"]
        client.post("/predict/stream", content=json.dumps({"inputs": text}))
        client.post("/hf/weather", json={"inputs": text})
    told = [record for record in caplog.records if record.name == "serving.texts"]
    assert [record.request["text"] for record in told] == ([text, "ice", text, text] if asked else [])  # type: ignore[attr-defined]
    assert all(len(Lines("%(message)s").format(record).splitlines()) == 1 for record in told)
    if asked:
        assert told[0].message == f"{json.dumps(text)} {found[0]['label']!r} {found[0]['score']:.4f}"
    else:
        assert "forged" not in caplog.text
        assert "ice" not in [word for record in caplog.records for word in record.getMessage().split()]
