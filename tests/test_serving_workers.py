"""Several processes behind one port, and what the admin port tells of them."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from nlp_app import Predictor
from nlp_app.client import Client
from nlp_app.errors import ConfigError
from serving import Settings, create_app, keys
from serving.cpus import available_cpus
from serving.keys import Keys
from serving.measures import Histogram, Measures, added
from serving.problems import Refused
from tests.conftest import LABELS, ROOT, TEXTS
from tests.test_serving_app import wait_until_loaded
from tests.test_serving_main import call, server


@contextmanager
def serving(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A server with an admin port, and both addresses."""
    admin = free_port()
    with server("--admin-port", admin, *arguments, **environment) as (process, address):
        yield process, address, f"http://127.0.0.1:{admin}"


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def ask(address: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    request = Request(address, method=method, headers=headers)
    try:
        with urlopen(request) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except URLError:
        return 0, ""


def metrics(admin: str) -> dict[str, float]:
    """The samples whose name and labels are enough to know them by."""
    status, text = ask(f"{admin}/metrics")
    assert status == 200
    return {
        f"{sample.name} {' '.join(sorted(sample.labels.values()))}".strip(): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def wait_for_workers(admin: str, count: int) -> None:
    while ask(f"{admin}/health/ready")[0] != 200 or metrics(admin)["nlp_app_workers_ready"] != count:
        pass


def children(process: subprocess.Popen[str]) -> list[int]:
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in text.split()]


def test_a_worker_that_is_killed_is_started_again_and_nothing_counted_is_lost(shared_checkpoint: Path) -> None:
    expected = [one.to_json() for one in Predictor.load(shared_checkpoint).predict(TEXTS)]
    with serving("--checkpoint", shared_checkpoint, "--workers", 2) as (process, address, admin):
        wait_for_workers(admin, 2)
        for _ in range(10):
            assert call(f"{address}/predict", {"inputs": TEXTS})[1]["predictions"] == expected
        while metrics(admin).get("nlp_app_texts_total weather") != 10 * len(TEXTS):
            pass
        version = Predictor.load(shared_checkpoint).checkpoint.version
        told = metrics(admin)
        assert told[f"nlp_app_model_workers {' '.join(sorted(('weather', version)))}"] == 2
        assert (told["nlp_app_max_waiting_texts"], told["nlp_app_max_connections"]) == (2 * 2048, 2 * 2048)
        assert told["nlp_app_resident_bytes"] > 100e6
        assert told["nlp_app_cpu_seconds_total"] > 0
        assert [told[f"nlp_app_reloads_total {outcome} weather"] for outcome in ("done", "failed")] == [0, 0]
        assert [told[f"nlp_app_requests_total {status}"] for status in (200, 429, 503, 504)] == [10, 0, 0, 0]
        before = children(process)
        os.kill(before[0], signal.SIGKILL)
        while set(children(process)) & set(before) != {before[1]} or len(children(process)) < 2:
            pass
        wait_for_workers(admin, 2)
        assert call(f"{address}/predict", {"inputs": TEXTS})[1]["predictions"] == expected
        while (found := metrics(admin))["nlp_app_texts_total weather"] != 11 * len(TEXTS):
            pass
        assert found["nlp_app_requests_total 200"] == 11
        assert found["nlp_app_score_count weather"] == 11 * len(TEXTS)
        process.terminate()
        assert process.wait(timeout=60) == 0
        assert "is started again" in (process.stderr.read() if process.stderr else "")


def test_our_own_client_loses_nothing_where_workers_are_killed(shared_checkpoint: Path) -> None:
    expected = [one.label for one in Predictor.load(shared_checkpoint).predict(TEXTS)]
    found: list[list[str]] = []
    killed = threading.Event()

    def ask_on(address: str) -> int:
        asked = 0
        with Client(address) as client:
            while not killed.is_set():
                found.append([one.label for one in client.predict(TEXTS)])
                asked += 1
        return asked

    with serving("--checkpoint", shared_checkpoint, "--workers", 2) as (process, address, admin):
        wait_for_workers(admin, 2)
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask_on, address) for _ in range(4)]
            try:
                for _ in range(3):
                    before, answered = children(process), len(found)
                    while len(found) < answered + 20:
                        assert not any(one.done() for one in asking)
                    os.kill(before[0], signal.SIGKILL)
                    while before[0] in children(process):
                        pass
                    wait_for_workers(admin, 2)
            finally:
                killed.set()
        assert sum(one.result() for one in asking) == len(found) >= 60
        assert all(one == expected for one in found)


def test_a_worker_that_hangs_is_killed(shared_checkpoint: Path) -> None:
    with serving("--checkpoint", shared_checkpoint, "--workers", 2) as (process, _, admin):
        wait_for_workers(admin, 2)
        before = children(process)
        os.kill(before[0], signal.SIGSTOP)
        while before[0] in children(process):
            pass
        wait_for_workers(admin, 2)
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_workers_load_new_checkpoints(shared_checkpoint: Path, tmp_path: Path) -> None:
    key = "k" * 40
    file = tmp_path / "keys"
    file.write_text(f"sha256:{hashlib.sha256(key.encode()).hexdigest()}  # ours\n")
    arguments = ("--checkpoint", shared_checkpoint, "--workers", 2, "--admin-keys-file", file)
    with serving(*arguments) as (process, _, admin):
        wait_for_workers(admin, 2)
        assert ask(f"{admin}/reload", "POST")[0] == 401
        assert ask(f"{admin}/reload", "POST", authorization=f"Bearer {key}") == (202, '{"status":"reloading"}')
        assert ask(f"{admin}/reload")[0] == 405
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_a_checkpoint_that_is_broken_ends_all_workers_with_one_sentence(tmp_path: Path) -> None:
    with serving("--checkpoint", tmp_path, "--workers", 3) as (process, *_):
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(errors.strip().splitlines()) == 1
    assert str(tmp_path) in errors


def test_workers_end_where_their_supervisor_is_no_more(shared_checkpoint: Path) -> None:
    with serving("--checkpoint", shared_checkpoint, "--workers", 2) as (process, _, admin):
        wait_for_workers(admin, 2)
        workers = children(process)
        process.kill()
        process.wait()
        for worker in workers:
            while Path(f"/proc/{worker}/cmdline").exists() and Path(f"/proc/{worker}/cmdline").read_bytes():
                pass


def test_one_process_has_an_admin_port_too(shared_checkpoint: Path) -> None:
    with serving("--checkpoint", shared_checkpoint) as (process, address, admin):
        wait_for_workers(admin, 1)
        assert call(f"{address}/predict", {"inputs": ["ice", "sun"]})[0] == 200
        assert call(f"{address}/predict", {"inputs": 3})[0] == 422
        found = metrics(admin)
        assert found["nlp_app_texts_total weather"] == 2
        assert [found[f"nlp_app_requests_total {status}"] >= 1 for status in (200, 422)] == [True, True]
        assert sum(found.get(f"nlp_app_labels_total {label} weather", 0) for label in LABELS) == 2
        assert found["nlp_app_stage_seconds_count queue weather"] >= 1
        assert ask(f"{admin}/health/live") == (200, '{"status":"live"}')
        assert ask(f"{admin}/reload", "POST")[0] == 403
        assert ask(f"{address}/metrics")[0] == 404, "nothing of it on the other port"
        process.terminate()
        assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_the_number_of_processors_is_that_of_the_quota(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    free = available_cpus(tmp_path)
    assert free >= 1
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert available_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert available_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cpus(tmp_path) == 1
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert available_cpus(tmp_path) == free


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 20)), max_size=8), min_size=1, max_size=4))
def test_what_processes_count_adds_up_to_what_one_would_have_counted(parts: list[list[tuple[str, float]]]) -> None:
    def counted(values: list[tuple[str, float]]) -> Measures:
        measures = Measures()
        for name, value in values:
            measures.answered(200 if name == "a" else 503, value)
            measures.models[name].scores.add(value)
            measures.models[name].labels[name] += 1
        return measures

    whole = counted([value for part in parts for value in part]).to_json()
    found = added([counted(part).to_json() for part in parts])
    assert found["requests"] == whole["requests"]
    assert found["seconds"]["counts"] == whole["seconds"]["counts"]
    assert found["seconds"]["sum"] == pytest.approx(whole["seconds"]["sum"])
    assert {name: one["labels"] for name, one in found["models"].items()} == {
        name: one["labels"] for name, one in whole["models"].items()
    }


def test_a_value_is_counted_at_its_bound() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 2, 3):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]


@pytest.fixture
def key() -> str:
    return "s3cret-key"


def entry(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer s3cret-key"}, 200),
        ({"authorization": "bearer  other "}, 200),
        ({"X-API-Key": "other"}, 200),
        ({}, 401),
        ({"Authorization": "Bearer s3cret-ke"}, 401),
        ({"Authorization": "Basic s3cret-key"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"X-API-Key": ""}, 401),
    ],
)
def test_a_key_opens_all_but_health(shared_checkpoint: Path, key: str, headers: dict[str, str], status: int) -> None:
    from fastapi.testclient import TestClient

    settings = Settings(checkpoint=shared_checkpoint, api_keys=f"{entry(key)},{entry('other')}")
    with TestClient(create_app(settings)) as client:
        wait_until_loaded(client)
        for method, path, body in (
            ("POST", "/predict", {"inputs": "x"}),
            ("POST", "/predict?x", {"inputs": "x"}),
            ("POST", "/models/weather/predict", {"inputs": "x"}),
            ("POST", "/hf/weather", {"inputs": "x"}),
            ("POST", "/predict/stream", {"inputs": "x"}),
            ("GET", "/v2/models/weather", None),
            ("GET", "/info", None),
            ("GET", "/docs", None),
            ("GET", "/openapi.json", None),
        ):
            response = client.request(method, path, json=body, headers=headers)
            assert response.status_code == status, path
            if status == 401:
                assert response.headers["www-authenticate"] == "Bearer"
        assert client.get("/health/ready").status_code == 200
        assert client.get("/v2/health/live").status_code == 200


def test_keys_are_read_again_and_those_that_are_none_change_nothing(tmp_path: Path, key: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of the team\n{entry(key)}\n\n")
    found = Keys(entries=None, file=file, flag="api-keys")
    found.check({b"x-api-key": key.encode()})
    for broken, message in (
        ("plain-key", "entry 1 is no hashed key: each is sha256: and 64 hex digits"),
        ("# none\n", "has no key, and without one all were let in"),
    ):
        file.write_text(broken)
        with pytest.raises(ConfigError, match=message):
            found.reload()
        found.check({b"x-api-key": key.encode()})
    file.write_text(entry("new"))
    found.reload()
    found.check({b"x-api-key": b"new"})
    with pytest.raises(Refused, match="has no valid API key"):
        found.check({b"x-api-key": key.encode()})
    with pytest.raises(ConfigError, match=r"--api-keys-file .*gone cannot be read"):
        Keys(entries=None, file=tmp_path / "gone", flag="api-keys")


def test_a_key_that_is_made_opens(capsys: pytest.CaptureFixture[str]) -> None:
    keys.main()
    told = capsys.readouterr().out
    made, hashed = re.findall(r": +(\S+)$", told, re.M)
    found = Keys(entries=hashed, file=None, flag="api-keys")
    found.check({b"authorization": f"Bearer {made}".encode()})


def test_keys_that_are_none_end_the_server_before_it_listens(shared_checkpoint: Path) -> None:
    program = [sys.executable, "-m", "serving", "--checkpoint", str(shared_checkpoint), "--api-keys", "plain"]
    ended = subprocess.run(program, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 2
    assert "make one with python -m serving.keys" in ended.stderr
    assert "plain" not in ended.stderr, "a key is no text for a log"
