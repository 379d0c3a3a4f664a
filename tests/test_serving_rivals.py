"""Clients of other systems get right answers, from a real server."""

import json
import re
import socket
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from fastapi.testclient import TestClient
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from hypothesis import given
from hypothesis import strategies as st

from nlp_app import Predictor
from serving import Settings, create_app
from serving.problems import Refused
from serving.tensors import SHORT, Input, Parameters, asked, read_texts, split
from tests.conftest import LABELS, TEXTS
from tests.test_serving_app import wait_until_loaded
from tests.test_serving_main import server, wait_until_ready

MORE = [*TEXTS, "", "雪 “ice” \x00", "a" * 400]


@pytest.fixture(scope="module")
def weather(shared_checkpoint: Path) -> Predictor:
    return Predictor.load(shared_checkpoint)


@pytest.fixture(scope="module")
def address(shared_checkpoint: Path) -> Iterator[str]:
    with server("--checkpoint", f"weather@3={shared_checkpoint}", "--max-inputs", "100") as (_, address):
        wait_until_ready(address)
        yield address


@pytest.fixture(scope="module")
def inference_server(address: str) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(address.removeprefix("http://"))
    yield client
    client.close()


def tensor(texts: list[str], *, binary: bool, shape: list[int] | None = None) -> Any:
    values = np.array([text.encode() for text in texts], dtype=object).reshape(shape or [len(texts)])
    found = triton.InferInput("text", list(values.shape), "BYTES")
    found.set_data_from_numpy(values, binary_data=binary)
    return found


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/health/startup", "/v2/health/live", "/v2/health/ready"]
)
def test_who_asks_for_the_head_alone_is_answered_so(address: str, path: str) -> None:
    found = [
        whole_answer(address, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for method in ("GET", "HEAD")
    ]
    (head, body), (head_alone, nothing) = (one.split(b"\r\n\r\n") for one in found)
    assert (head.split()[1], nothing) == (b"200", b"")
    assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"
    assert len({re.sub(rb"(date|x-request-id): [^\r]*", b"", one) for one in (head, head_alone)}) == 1


def whole_answer(address: str, request: str) -> bytes:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as file:
        connection.sendall(request.encode())
        return file.read()


def test_triton_s_client_finds_the_model(inference_server: triton.InferenceServerClient) -> None:
    assert inference_server.is_server_live()
    assert inference_server.is_server_ready()
    assert inference_server.is_model_ready("weather")
    assert inference_server.is_model_ready("weather", "3")
    assert not inference_server.is_model_ready("weather", "4")
    assert inference_server.get_server_metadata()["name"] == "nlp_app"
    assert inference_server.get_model_metadata("weather", "3") == {
        "name": "weather",
        "versions": ["3"],
        "platform": "nlp_app",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]}, {"name": "score", "datatype": "FP32", "shape": [-1]}
        ],
    }  # fmt: skip


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("version", ["", "3"])
def test_triton_s_client_gets_the_answers_of_the_model(
    inference_server: triton.InferenceServerClient,
    weather: Predictor,
    binary_in: bool,
    binary_out: bool | None,
    version: str,
) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("score", "label")]
    answer = inference_server.infer(
        "weather", [tensor(MORE, binary=binary_in)], version, request_id="r1",
        outputs=None if binary_out is None else outputs,
    )  # fmt: skip
    expected = weather.predict(MORE)
    assert [label.decode() if isinstance(label, bytes) else label for label in answer.as_numpy("label")] == [
        one.label for one in expected
    ]
    scores = answer.as_numpy("score")
    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx([one.score for one in expected], abs=1e-5)
    assert answer.get_response()["id"] == "r1"
    assert answer.get_response()["model_version"] == "3"


def test_a_shape_comes_back_as_it_was(inference_server: triton.InferenceServerClient) -> None:
    answer = inference_server.infer("weather", [tensor(["ice"] * 4, binary=True, shape=[4, 1])])
    assert answer.as_numpy("label").shape == (4, 1)
    assert inference_server.infer("weather", [tensor([], binary=True)]).as_numpy("label").shape == (0,)


def test_triton_s_client_is_told_what_is_wrong(inference_server: triton.InferenceServerClient) -> None:
    with pytest.raises(triton.InferenceServerException, match="GET /models lists what there is"):
        inference_server.infer("nothing", [tensor(["x"], binary=True)])
    with pytest.raises(triton.InferenceServerException, match="there are 101 texts, but a request may hold 100"):
        inference_server.infer("weather", [tensor(["x"] * 101, binary=True)])
    outputs = [triton.InferRequestedOutput("logits")]
    with pytest.raises(triton.InferenceServerException, match="there are label and score, and no other"):
        inference_server.infer("weather", [tensor(["x"], binary=True)], outputs=outputs)


def test_hugging_face_s_client_gets_the_answers_of_the_model(address: str, weather: Predictor) -> None:
    client = InferenceClient(model=f"{address}/hf/weather")
    for text, expected in zip(MORE, weather.predict(MORE, 3), strict=True):
        found = client.text_classification(text)
        assert [one.label for one in found] == [one.label for one in expected.scores]
        assert [one.score for one in found] == pytest.approx([one.score for one in expected.scores], abs=1e-5)
    assert len(client.text_classification("ice", top_k=1)) == 1
    with pytest.raises(HfHubHTTPError, match="404"):
        InferenceClient(model=f"{address}/hf/nothing").text_classification("x")


@pytest.fixture(scope="module")
def client(shared_checkpoint: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(checkpoint=shared_checkpoint, max_body_bytes=4000))) as client:
        wait_until_loaded(client)
        yield client


def test_hugging_face_s_lists_and_faults(client: TestClient) -> None:
    found = client.post("/hf/weather", json={"inputs": ["ice", "sun"], "parameters": {"top_k": 2}}).json()
    assert [len(one) for one in found] == [2, 2]
    assert len(client.post("/hf/weather", json={"inputs": "ice"}).json()[0]) == len(LABELS)
    refused = client.post("/hf/weather", json={"inputs": 3})
    assert (refused.status_code, list(refused.json())) == (422, ["error"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "input"}, "inputs: must hold one input, text"),
        ({"datatype": "INT32"}, "inputs[0].datatype: must be BYTES"),
        ({"shape": [3]}, "inputs[0].shape: does not say 2 elements, which are there"),
        ({"shape": [-2]}, "inputs[0].shape: must be 1 to 8 whole numbers"),
        ({"shape": [2] + [1] * 8}, "inputs[0].shape: must be"),
        ({"shape": [], "data": ["a"]}, "inputs[0].shape: must be"),
        ({"shape": [0, 5], "data": []}, "inputs[0].shape: must be"),
        ({"shape": [2**62, 2**62, 0]}, "inputs[0].shape: must be"),
        ({"shape": [10**400]}, "inputs[0].shape: must be"),
        ({"shape": [10**9] * 8}, "inputs[0].shape: must be"),
        ({"shape": [2**63 - 1] * 100}, "inputs[0].shape: must be"),
        ({"shape": [1] * SHORT}, "inputs[0].shape: must be"),
        ({"shape": [-1, -2]}, "inputs[0].shape: must be"),
        ({"shape": "x"}, "inputs[0].shape: must be"),
        ({"data": ["a", 2]}, "inputs[0].data: must be a list of strings"),
        ({"data": None}, "inputs[0].data: must be a list of strings"),
        ({"data": [["a"], "b"]}, "inputs[0].data: must be a list of strings"),
        ({"data": [[["a"]], [["b"]]]}, "inputs[0].data: must be a list of strings"),
        ({"data": [["a"]] + [[]] * 5000 + [["b"]]}, "inputs[0].data: must be a list of strings"),
        ({"name": 3}, "the request is no inference request"),
        ({"parameters": {"binary_data_size": 4}}, "must be the number of bytes behind the JSON"),
        ({"parameters": {"binary_data_size": True}}, "must be the number of bytes behind the JSON"),
    ],
)
def test_an_inference_request_that_is_wrong_is_told_so(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        ask({"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"], **changes})
    assert refused.value.status == 400
    assert message in refused.value.detail


def ask(*inputs: dict[str, Any], **rest: Any) -> tuple[list[str], list[int], dict[str, bool]]:
    """What is read of a request."""
    inquiry, tensors = split(json.dumps({"inputs": inputs, **rest}).encode(), None)
    return *read_texts(inquiry.inputs[0], tensors, LIMITS), asked(inquiry)


LIMITS = Settings(checkpoint=Path("x"))


def test_texts_may_be_lists_within_a_list() -> None:
    texts = {"name": "text", "datatype": "BYTES", "shape": [2, 1], "data": [["a"], ["b"]]}
    every = {"label": False, "score": False}
    assert ask(texts) == (["a", "b"], [2, 1], every)
    assert ask(texts | {"data": ["a", "b"]}) == (["a", "b"], [2, 1], every)
    assert ask(texts | {"shape": [1, 2, 1]}) == (["a", "b"], [1, 2, 1], every)


def test_what_is_null_is_not_there() -> None:
    """MLServer's client sends every field that it knows."""
    texts = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"], "parameters": None}
    every = {"label": False, "score": False}
    assert ask(texts, id=None, parameters=None, outputs=None) == (["a"], [1], every)
    assert ask(texts, outputs=[{"name": "label", "parameters": None}])[2] == {"label": False}
    assert ask(texts | {"parameters": {"binary_data_size": None}}, parameters={"binary_data_output": None})[2] == every


def test_an_output_is_sent_as_bytes_where_it_or_the_request_says_so() -> None:
    texts = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    of_all = {"parameters": {"binary_data_output": True, "more": [[]]}}
    assert ask(texts, **of_all)[2] == {"label": True, "score": True}
    but_one = [{"name": "score", "parameters": {"binary_data": False}}, {"name": "label", "parameters": {}}]
    assert ask(texts, outputs=but_one, **of_all)[2] == {"score": False, "label": True}
    wrong: list[Any] = [[{"name": "x"}], [{}], [{"name": "label"}] * 5000, {}, 3]
    for outputs in wrong:
        with pytest.raises(Refused, match=r"^outputs: "):
            ask(texts, outputs=outputs)


@pytest.mark.parametrize(
    "inputs",
    [
        b'{"name":"text","datatype":"BYTES","shape":[%s],"data":["a"]}' % b",".join([b"9223372036854775807"] * 100_000),
        b'{"name":"text","datatype":"BYTES","shape":[%s],"data":["a"]}' % b",".join([b"1"] * 900_000),
        b'{"name":"text","datatype":"BYTES","shape":[1],"data":[%s]}' % b",".join([b"[]"] * 680_000),
        b'{"name":"text","datatype":"BYTES","shape":[1],"data":["a",%s]}' % b",".join([b"[]"] * 680_000),
        b'{"name":"text","datatype":"BYTES","shape":[1],"data":["a"],"parameters":{"x":[%s]}}'
        % b",".join([b"[]"] * 680_000),
        b",".join([b'{"name":"","datatype":"","shape":[]}'] * 50_000),
        b'{"name":"text","datatype":"BYTES","shape":[1],"data":["a"]}],"outputs":[%s'
        % b",".join([b'{"name":"label"}'] * 120_000),
    ],
    ids=["large dimensions", "dimensions", "lists", "lists after a text", "parameters", "inputs", "outputs"],
)
def test_nothing_of_a_request_is_made_into_many_objects(inputs: bytes) -> None:
    """Each is about 2 MB, which take 3 ms to look at; as objects they took 20 ms to 10 s of the event loop."""
    body = b'{"inputs":[' + inputs + b"]}"
    tracemalloc.start()
    try:
        with suppress(Refused):
            inquiry, tensors = split(body, None)
            read_texts(inquiry.inputs[0], tensors, LIMITS)
            asked(inquiry)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(body)


def test_no_more_bytes_are_read_than_there_may_be_texts() -> None:
    """500,000 empty elements took 0.3 s."""
    packed = bytes(4 * 500_000)
    for shape, message in (
        (b"[3]", "says 3 elements, but there are bytes of more"), (b"[500000]", "a request may hold 1024"),
        (b"[600]", "says 600 elements"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=message):
            read_texts(binary(shape, packed), memoryview(packed), LIMITS)
    with pytest.raises(Refused, match="end before element 2 does"):
        read_texts(binary(b"[3]", bytes(8)), memoryview(bytes(8)), LIMITS)


def binary(shape: bytes, packed: bytes) -> Input:
    size = msgspec.Raw(str(len(packed)).encode())
    return Input("text", msgspec.Raw(shape), "BYTES", parameters=Parameters(binary_data_size=size))


@pytest.mark.parametrize("length", ["x", "-1", "99999", "1.5", "9" * 5000])
def test_the_length_of_the_json_is_a_number_of_bytes_of_the_body(client: TestClient, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    refused = client.post("/v2/models/weather/infer", content=b"{}", headers=headers)
    assert "must be the number of bytes of the JSON" in refused.json()["error"]


@given(texts=st.lists(st.text()))
def test_elements_are_read_as_they_were_written(texts: list[str]) -> None:
    packed = b"".join(struct.pack("<I", len(one.encode())) + one.encode() for one in texts)
    found, _ = read_texts(binary(b"[%d]" % len(texts), packed), memoryview(packed), LIMITS)
    assert found == texts


@given(data=st.binary(max_size=40))
def test_bytes_that_are_no_elements_are_refused(data: bytes) -> None:
    texts: list[str] = []
    with suppress(Refused):
        texts, _ = read_texts(binary(b"[1]", data), memoryview(data), LIMITS)
    whole = len(data) >= 4 and data[:4] == struct.pack("<I", len(data) - 4) and is_text(data[4:])
    assert [text.encode() for text in texts] == ([data[4:]] if whole else [])


def is_text(data: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        return data.decode() is not None
    return False


def test_nothing_of_theirs_is_larger_than_it_may_be(client: TestClient) -> None:
    for path in ("/v2/models/weather/infer", "/hf/weather"):
        assert client.post(path, content=b"x" * 5000).status_code == 413
        assert client.post(path, content=b"{}", headers={"Content-Encoding": "gzip"}).status_code == 415


def stream(client: TestClient, *lines: str) -> list[dict[str, Any]]:
    answer = client.post("/predict/stream", content="\n".join(lines).encode())
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_stream_answers_a_line_for_a_line(client: TestClient, weather: Predictor) -> None:
    texts = [f"{text} {number}" for number in range(200) for text in TEXTS]
    found = stream(client, *(json.dumps({"inputs": text}) for text in texts))
    assert [one["label"] for one in found] == [one.label for one in weather.predict(texts)]
    assert len(json.dumps(texts)) > 4000, "more than one body may have"


def test_a_line_that_is_wrong_is_answered_in_its_place(client: TestClient) -> None:
    long = json.dumps({"inputs": "x" * 5000})
    two = '{"inputs": ["a", "b"]}'
    found = stream(client, '{"inputs": "ice"}', "", "{", two, long, '{"inputs": "sun", "top_k": 2}')
    assert [found[0]["label"] in LABELS, len(found[4]["scores"])] == [True, 2]
    assert [one["detail"][:22] for one in found[1:4]] == [
        "line 3: the body is no", "line 4: inputs: must b", "line 5: the body is la"
    ]  # fmt: skip
    assert stream(client) == []


def test_texts_at_which_the_model_fails_are_answered_in_their_place(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    classify = Predictor.classify

    def broken(self: Predictor, texts: Any, *rest: Any, **more: Any) -> Any:
        if "poison" in texts:
            raise RuntimeError("a secret text")
        return classify(self, texts, *rest, **more)

    monkeypatch.setattr(Predictor, "classify", broken)
    lines = [{"inputs": "poison" if number == 300 else "snow"} for number in range(600)]
    body = "\n".join(map(json.dumps, lines)).encode()
    headers = {"Content-Type": "application/x-ndjson"}
    answers = client.post("/predict/stream", content=body, headers=headers).text.splitlines()
    assert len(answers) == len(lines)
    assert "the server failed at this request" in answers[300]
    assert all('"label"' in one for one in (answers[0], answers[-1]))


def test_a_line_that_comes_alone_is_answered_at_once(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rwb") as file:
        file.write(b"POST /models/weather/predict/stream HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(3):
            line = b'{"inputs": "ice %d"}\n' % number
            file.write(b"%x\r\n%s\r\n" % (len(line), line))
            file.flush()
            if not number:
                while file.readline() != b"\r\n":
                    pass
            size = int(file.readline(), 16)
            assert json.loads(file.read(size))["label"] in LABELS
            file.readline()
        file.write(b"0\r\n\r\n")
        file.flush()
        assert file.readline() == b"0\r\n"
