"""What the image runs, and what it says of too little memory."""

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nlp_app.cgroup import memory_limit
from nlp_app.errors import ConfigError
from serving import container
from serving.health import ready
from serving.need import MB, check_memory, check_reload, needed_bytes
from serving.settings import Settings
from tests.conftest import command
from tests.test_serving_main import call, started, wait_until_ready


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the image's folders; only the sample is there."""
    (tmp_path / "sample").mkdir()
    monkeypatch.setattr(container, "MODEL", tmp_path / "model")
    monkeypatch.setattr(container, "SAMPLE", tmp_path / "sample")
    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.setenv(container.VARIABLE, "")  # put back at the end
    monkeypatch.delenv(container.VARIABLE)
    return tmp_path


def chosen() -> str:
    container.choose()
    return os.environ.get(container.VARIABLE, "")


def test_with_nothing_mounted_the_sample_answers_and_it_is_said(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chosen() == str(places / "sample")
    assert capsys.readouterr().err.startswith(f"warning: nothing is mounted at {places / 'model'}, so the sample model")


def test_what_is_mounted_answers(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (places / "model").mkdir()
    assert chosen() == str(places / "model")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["--checkpoint", "x"], ["--checkpoint=x"], []])
def test_what_is_asked_for_is_never_replaced(
    places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    if not arguments:
        monkeypatch.setenv(container.VARIABLE, "/mine")
    assert chosen() == ("" if arguments else "/mine")
    assert capsys.readouterr().err == ""


def test_an_empty_mount_is_refused(tmp_path: Path) -> None:
    done = command("serving.container", "--port", "0", NLP_APP_CHECKPOINT=str(tmp_path))
    assert done.returncode == 2
    assert f"error: {tmp_path} has no manifest.json" in done.stderr


class Health(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        assert self.path == "/health/ready"
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_port
        listening.shutdown()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_the_health_check_asks_for_readiness(
    port: int, monkeypatch: pytest.MonkeyPatch, host: str, status: int, healthy: bool
) -> None:
    monkeypatch.setattr(Health, "status", status)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ready({"NLP_APP_HOST": host, "NLP_APP_PORT": str(port)}) is healthy
    asked = command("serving.health", NLP_APP_HOST=host, NLP_APP_PORT=str(port))
    assert (asked.returncode, asked.stderr) == (0 if healthy else 1, "")


def test_a_server_that_is_not_there_or_says_nothing_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.health.TIMEOUT_S", 0.05)
    assert not ready({"NLP_APP_PORT": "no number"})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        assert not ready({"NLP_APP_PORT": port})
    assert not ready({"NLP_APP_PORT": port})


def test_the_image_s_program_serves(shared_checkpoint: Path) -> None:
    environment = {"NLP_APP_CHECKPOINT": str(shared_checkpoint)}
    with started(module="serving.container", environment=environment) as (process, address):
        wait_until_ready(address)
        assert call(f"{address}/predict", {"inputs": "snow"})[0] == 200
        port = address.rpartition(":")[2]
        assert command("serving.health", NLP_APP_PORT=port).returncode == 0
        process.terminate()
        assert process.communicate() == ("", "")
    assert process.returncode == 0


LIMITS_OF_1 = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")


def group(folder: Path, limit: str, name: str = "memory.max") -> Path:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(f"{limit}\n")
    return folder


def test_too_little_memory_is_said_with_the_need(shared_checkpoint: Path, tmp_path: Path) -> None:
    settings = Settings(checkpoint=shared_checkpoint)
    needed = needed_bytes(settings)
    assert 220 * MB < needed < 230 * MB
    check_memory(settings, group(tmp_path, str(needed)))
    with pytest.raises(ConfigError, match=rf"needs about {needed / MB:.0f} MB of memory, but may use 100: give"):
        check_memory(settings, group(tmp_path, str(100 * MB)))
    several = Settings(checkpoint=shared_checkpoint, workers=2)
    with pytest.raises(ConfigError, match="or fewer --workers"):
        check_memory(several, group(tmp_path, str(needed)))


def test_weights_of_8_bits_are_of_32_in_memory(checkpoint: Path) -> None:
    before = needed_bytes(Settings(checkpoint=checkpoint))
    config = json.loads((checkpoint / "config.json").read_bytes())
    (checkpoint / "config.json").write_text(json.dumps({**config, "weights": "int8"}))
    stored = (checkpoint / "model.safetensors").stat().st_size
    assert needed_bytes(Settings(checkpoint=checkpoint)) - before == 3 * stored


@pytest.mark.parametrize(("limit", "used"), [("memory.max", "memory.current"), LIMITS_OF_1])
def test_a_model_that_does_not_fit_beside_the_old_one_is_refused(
    limit: str, used: str, shared_checkpoint: Path, tmp_path: Path
) -> None:
    needed = needed_bytes(Settings(checkpoint=shared_checkpoint)) - 220 * MB
    group(tmp_path, str(500 * MB), limit)
    check_reload(shared_checkpoint, "torch", tmp_path)
    check_reload(shared_checkpoint, "torch", group(tmp_path, str(500 * MB - needed), used))
    with pytest.raises(ConfigError, match=r"beside the old one, but 0 are left of 500: give the container more, or"):
        check_reload(shared_checkpoint, "torch", group(tmp_path, str(500 * MB - needed + 1), used))


def test_what_may_be_used_is_read_of_either_version(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
    assert memory_limit(group(tmp_path, "max")) is None
    assert memory_limit(group(tmp_path, "7", "memory/memory.limit_in_bytes")) == 7
    assert memory_limit(group(tmp_path, "5")) == 5


def test_a_model_that_cannot_be_read_is_for_loading_to_refuse(tmp_path: Path) -> None:
    assert needed_bytes(Settings(checkpoint=tmp_path)) == 220 * MB
