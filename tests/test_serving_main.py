import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from nlp_app import Predictor
from serving.__main__ import main
from tests.conftest import ROOT, TEXTS, Refused, write_checkpoint


@contextmanager
def server(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its address."""
    with started(*arguments, environment=environment) as found:
        yield found


@contextmanager
def started(
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    log: int | IO[str] = subprocess.PIPE,
    module: str = "serving",
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The same; log: where its standard error goes, a file if it is long; module: the program."""
    program = [sys.executable, "-m", module, "--port", "0", "--log-level", "warning", *map(str, arguments)]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env={**os.environ, **(environment or {})}
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://[\d.:]+", line)
            assert found, line
            yield process, found[0]
        finally:
            process.kill()


def call(address: str, body: object | None = None) -> tuple[int, dict[str, object]]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(address, data, {"Content-Type": "application/json"})) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def wait_until_ready(address: str) -> None:
    while call(f"{address}/health/ready")[0] != 200:
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_it_is_told_to_stop_then_exits_with_0(shared_checkpoint: Path, number: signal.Signals) -> None:
    expected = Predictor.load(shared_checkpoint).predict(TEXTS)
    with server("--checkpoint", shared_checkpoint) as (process, address):
        wait_until_ready(address)
        status, answer = call(f"{address}/predict", {"inputs": TEXTS})
        process.send_signal(number)
        _, errors = process.communicate()
    assert status == 200
    assert answer["predictions"] == [prediction.to_json() for prediction in expected]
    assert (process.returncode, errors) == (0, "")


def test_the_access_log_has_a_line_a_request_and_no_text(shared_checkpoint: Path, tmp_path: Path) -> None:
    flags = ("--checkpoint", shared_checkpoint, "--access-log", "true", "--log-format", "json")
    with (tmp_path / "log").open("w") as log, started(*flags, log=log) as (process, address):
        wait_until_ready(address)
        for path in ("predict", "predict?a=b", "hf/weather", "nothing") * 20:
            call(f"{address}/{path}", {"inputs": "a secret text"})
        process.terminate()
        process.wait()
    errors = (tmp_path / "log").read_text()
    lines = [line for line in map(json.loads, errors.splitlines()) if line["path"] != "/health/ready"]
    assert [(line["path"], line["status"]) for line in lines] == [
        ("/predict", 200), ("/predict", 200), ("/hf/weather", 200), ("/nothing", 404)
    ] * 20  # fmt: skip
    assert all(line["method"] == "POST" and line["ms"] > 0 and line["id"] for line in lines)
    assert "secret" not in errors


def test_a_full_disk_for_its_log_stops_no_answer_and_no_end(shared_checkpoint: Path) -> None:
    expected = [one.to_json() for one in Predictor.load(shared_checkpoint).predict(TEXTS)]
    program = [sys.executable, "-m", "serving", "--port", "0", "--access-log", "true"]
    program += ["--checkpoint", str(shared_checkpoint)]
    with Path("/dev/full").open("w") as full, subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=full, text=True, cwd=ROOT
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            address = re.search(r"http://[\d.:]+", process.stdout.readline())[0]  # type: ignore[index]
            wait_until_ready(address)
            for path in ("predict", "predict?usual=way"):
                for _ in range(50):
                    assert call(f"{address}/{path}", {"inputs": TEXTS})[1]["predictions"] == expected
            process.terminate()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def test_a_signal_before_the_server_has_started_ends_it_too(shared_checkpoint: Path) -> None:
    with server("--checkpoint", shared_checkpoint) as (process, _):
        process.terminate()  # as soon as it has said where it listens
        assert process.wait(timeout=60) == 0


def test_a_client_that_stalls_does_not_keep_the_server_alive(
    shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import serving.settings as p, serving.__main__ as s; p.SECONDS_TO_FINISH = 1; s.main()"
    arguments = [
        "--checkpoint",
        str(shared_checkpoint),
        "--port",
        "0",
        "--log-level",
        "critical",
        "--request-timeout-s",
        "1",
    ]
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, port = re.search(r"http://([\d.]+):(\d+)", process.stdout.readline()).groups()  # type: ignore[union-attr]
        wait_until_ready(f"http://{host}:{port}")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            assert call(f"http://{host}:{port}/health/live")[0] == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0


@contextmanager
def hanging(checkpoint: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server whose model hangs at the text "hang", where it is to be explained; its address."""
    program = (
        "import threading, serving.__main__ as s; from nlp_app.predictor import Predictor\n"
        "classify = Predictor.classify\n"
        "def hang(self, texts, *rest, **more):\n"
        "    return threading.Event().wait() if texts == ['hang'] else classify(self, texts, *rest, **more)\n"
        "Predictor.classify = hang; s.main()"
    )
    arguments = ["--checkpoint", str(checkpoint), "--port", "0", "--request-timeout-s", "0.1"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://[\d.:]+", process.stdout.readline())[0]  # type: ignore[index]
            wait_until_ready(address)
            yield process, address
        finally:
            process.kill()


def ends_without_the_model(process: subprocess.Popen[str]) -> bool:
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    return process.returncode == 1 and "the model does not answer: the server has stopped without it" in errors


def test_a_model_that_hangs_does_not_keep_the_server_alive(shared_checkpoint: Path) -> None:
    with hanging(shared_checkpoint) as (process, address):
        assert call(f"{address}/predict", {"inputs": "hang", "explain": True})[0] == 504
        while call(f"{address}/health/ready")[0] == 200:
            pass
        assert call(f"{address}/health/live")[0] == 200
        assert ends_without_the_model(process)


def test_a_model_that_has_just_begun_to_hang_does_not_either(shared_checkpoint: Path) -> None:
    with hanging(shared_checkpoint) as (process, address):
        assert call(f"{address}/predict", {"inputs": "hang", "explain": True})[0] == 504
        assert ends_without_the_model(process)


def test_nor_does_one_that_was_replaced_meanwhile(checkpoint: Path) -> None:
    with hanging(checkpoint) as (process, address):
        assert call(f"{address}/predict", {"inputs": "hang", "explain": True})[0] == 504
        shutil.rmtree(checkpoint)
        write_checkpoint(checkpoint, num_filters=8)
        while call(f"{address}/health/ready")[0] == 200:
            pass
        process.send_signal(signal.SIGHUP)
        wait_until_ready(address)
        assert ends_without_the_model(process)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name", "\udcff"), "is no printable text: choose another"),
        (("--host", "a" * 100), "choose another --port or --host"),
        (("--threads", "100000"), "--threads (or NLP_APP_THREADS) is '100000'"),
    ],
)
def test_refuses_odd_settings(
    refused: Refused, shared_checkpoint: Path, arguments: tuple[str, str], message: str
) -> None:
    assert message in refused(main, "--checkpoint", shared_checkpoint, *arguments)


def test_sigterm_lets_an_accepted_request_finish(shared_checkpoint: Path) -> None:
    body = json.dumps({"inputs": ["snow and ice " * 20] * 1000}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with server("--checkpoint", shared_checkpoint) as (process, address):
        wait_until_ready(address)
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(head.encode() + body)
            assert call(f"{address}/health/live")[0] == 200  # the server has read what came before
            process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        process.communicate()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"]) == 1000
    assert process.returncode == 0


def test_a_checkpoint_that_cannot_be_loaded_ends_the_server_with_one_sentence(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    with server("--checkpoint", checkpoint) as (process, _):
        _, errors = process.communicate()
    assert process.returncode == 2
    assert re.fullmatch(r"error: .*weather has no config.json, which every checkpoint has: .*\n", errors)


def test_refuses_a_port_that_is_taken(shared_checkpoint: Path, refused: Refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refused(main, "--checkpoint", shared_checkpoint, "--port", port)
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): choose another --port" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--checkpoint (or NLP_APP_CHECKPOINT) is not given"),
        (
            ["--checkpoint", "x", "--port", "many"],
            "--port (or NLP_APP_PORT) is 'many': Input should be a valid integer",
        ),
        (["--checkpoint", "x", "--port", "70000"], "--port (or NLP_APP_PORT) is '70000': Input should be less than"),
        (["--checkpoint", "x", "--max-inputs", "0"], "--max-inputs (or NLP_APP_MAX_INPUTS) is '0'"),
        (["--checkpoint", "x", "--log-level", "loud"], "--log-level (or NLP_APP_LOG_LEVEL) is 'loud'"),
        (["--checkpoint", "x", "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid:8000"),
    ],
)
def test_refuses_settings_that_break_a_rule(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.delenv("NLP_APP_CHECKPOINT", raising=False)
    assert message in refused(main, *arguments)
