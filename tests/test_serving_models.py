"""Several models in one process, and new checkpoints while they are asked."""

import functools
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from nlp_app import Predictor
from nlp_app.errors import NlpAppError
from nlp_app.folder import MANIFEST
from serving import Settings, create_app
from serving import models as models_module
from serving.models import Models
from serving.need import check_reload
from tests.conftest import write_checkpoint
from tests.test_serving_app import detail, hold_until, wait_until_loaded
from tests.test_serving_main import call, server, wait_until_ready

LABELS = {"sky": ("sun", "rain", "fog"), "sea": ("calm", "rough", "high"), "sea2": ("low", "flood", "ebb")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: write_checkpoint(folder / name, labels=labels) for name, labels in LABELS.items()}


def app_settings(folders: dict[str, Path], *checkpoints: str, **values: Any) -> Settings:
    return Settings(checkpoint=[one.format(**folders) for one in checkpoints], **values)


@pytest.fixture(scope="module")
def client(folders: dict[str, Path]) -> Iterator[TestClient]:
    settings = app_settings(folders, "air={sky}", "sea@1={sea}", "sea@2={sea2}")
    with TestClient(create_app(settings)) as client:
        wait_until_loaded(client)
        yield client


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("/predict", "sky"),
        ("/models/air/predict", "sky"),
        ("/models/sea/predict", "sea"),
        ("/models/sea/versions/1/predict", "sea"),
        ("/models/sea/versions/2/predict", "sea2"),
        ("/models/se%61/predict", "sea"),
        ("/models/sea/predict?x=1", "sea"),
    ],
)
def test_each_path_has_its_model(client: TestClient, path: str, labels: str) -> None:
    answer = client.post(path, json={"inputs": ["x"], "top_k": 3}).json()
    assert {one["label"] for one in answer["predictions"][0]["scores"]} == set(LABELS[labels])
    assert answer["model"]["name"] == ("air" if labels == "sky" else "sea")


def test_the_version_of_a_checkpoint_is_a_version_too(client: TestClient) -> None:
    version = client.post("/predict", json={"inputs": "x"}).json()["model"]["version"]
    assert client.post(f"/models/air/versions/{version}/predict", json={"inputs": "x"}).status_code == 200
    listed = client.get("/models").json()
    assert listed == [
        {"name": "air", "version": version, "ready": True},
        {"name": "sea", "version": "1", "ready": True},
        {"name": "sea", "version": "2", "ready": True},
    ]
    assert client.get("/models/sea/info").json()["labels"] == list(LABELS["sea"])


@pytest.mark.parametrize(
    "path", ["/models/no/predict", "/models/sea/versions/3/predict", "/models/air/versions/1/predict"]
)
def test_a_model_that_is_not_there_is_a_404(client: TestClient, path: str) -> None:
    assert "GET /models lists what there is" in detail(client.post(path, json={"inputs": "x"}), 404)


def test_health_tells_of_every_model(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(create_app(app_settings(folders, "a={sky}", "b={sea}"))) as client:
        wait_until_loaded(client)
        assert client.get("/health/startup").json() == {"status": "started"}
        second = list(client.app.state.models)[1].current  # type: ignore[attr-defined]
        monkeypatch.setattr(second, "_fails_since", 0.0)
        assert [one["ready"] for one in client.get("/models").json()] == [True, False]
        assert "the model fails" in detail(client.get("/health/ready"), 503)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "x/a"], "two checkpoints have one name: write NAME=DIR or NAME@VERSION=DIR"),
        (["m=a", "m=b"], "two checkpoints have one name"),
        ([], "at least 1 item"),
    ],
)
def test_refuses_names_that_are_no_names(values: list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(checkpoint=values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/m/a", [("a", "", "/m/a")]),
        ("x=/m/a", [("x", "", "/m/a")]),
        ("x@2=/m/a,y=/m/b", [("x", "2", "/m/a"), ("y", "", "/m/b")]),
        ("/m/lr=0.1/a", [("a", "", "/m/lr=0.1/a")]),
        (Path("/m/a=b,c"), [("a=b,c", "", "/m/a=b,c")]),
    ],
)
def test_names_and_versions_stand_before_the_folder(value: str | Path, expected: list[tuple[str, str, str]]) -> None:
    found = Settings(checkpoint=value).checkpoint
    assert [(*one[:2], str(one.folder)) for one in found] == expected


def swap(folder: Path, other: Path) -> None:
    """As a new checkpoint takes the place of an old one."""
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


def reload(client: TestClient) -> list[NlpAppError]:
    """In the event loop of the app."""
    models: Models = client.app.state.models  # type: ignore[attr-defined]
    assert client.portal is not None
    return client.portal.call(models.reload)


@pytest.mark.parametrize("how", ["signal", "watched"])
def test_a_new_checkpoint_is_loaded(folders: dict[str, Path], tmp_path: Path, how: str) -> None:
    folder = tmp_path / "m"
    shutil.copytree(folders["sky"], folder)
    flags = ["--watch-s", "0.05"] if how == "watched" else []
    with server("--checkpoint", folder, *flags) as (process, address):
        wait_until_ready(address)
        swap(folder, folders["sea"])
        wanted = Predictor.load(folder).checkpoint.version
        while call(f"{address}/predict", {"inputs": "x"})[1]["model"] != {"name": "m", "version": wanted}:
            if how == "signal":
                process.send_signal(signal.SIGHUP)
        process.terminate()
        assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_a_checkpoint_for_which_there_is_no_memory_changes_nothing(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(folders["sky"], folder)
    (tmp_path / "memory.max").write_text("1000")
    (tmp_path / "memory.current").write_text("1000")
    with TestClient(create_app(Settings(checkpoint=folder))) as client:
        wait_until_loaded(client)
        monkeypatch.setattr(models_module, "check_reload", functools.partial(check_reload, cgroup=tmp_path))
        before = client.post("/predict", json={"inputs": "x"}).json()
        shutil.rmtree(folder)
        shutil.copytree(folders["sea"], folder)
        (failure,) = reload(client)
        assert "MB of memory beside the old one, but 0 are left of 0" in str(failure)
        assert client.post("/predict", json={"inputs": "x"}).json() == before


def test_a_checkpoint_that_cannot_be_loaded_changes_nothing(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(folders["sky"], folder)
    with TestClient(create_app(Settings(checkpoint=folder))) as client:
        wait_until_loaded(client)
        models: Models = client.app.state.models  # type: ignore[attr-defined]
        before = client.post("/predict", json={"inputs": "x"}).json()
        for broken in ("weights", "manifest", "gone"):
            shutil.rmtree(folder)
            if broken != "gone":
                shutil.copytree(folders["sea"], folder)
                (folder / ("model.safetensors" if broken == "weights" else MANIFEST)).write_bytes(b"{}")
            (failure,) = reload(client)
            assert str(failure) in caplog.text
            assert "m goes on with its old checkpoint" in caplog.text
            assert client.get("/health/ready").status_code == 200
            assert client.post("/predict", json={"inputs": "x"}).json() == before
        shutil.copytree(folders["sea"], folder)
        (folder / "model.safetensors").write_bytes(b"{}")
        assert len(reload(client)) == 1
        tried = len(caplog.records)
        assert client.portal is not None
        assert client.portal.call(functools.partial(models.reload, again=False)) == []
        assert len(caplog.records) == tried, "who watches does not load the same broken files at each look"
        shutil.copyfile(folders["sea"] / "model.safetensors", folder / "model.safetensors")
        assert client.portal.call(functools.partial(models.reload, again=False)) == []
        assert client.post("/predict", json={"inputs": "x"}).json()["predictions"][0]["label"] in LABELS["sea"]
        current = models.default.current
        assert reload(client) == []
        assert models.default.current is current, "what did not change is not loaded again"


def test_a_request_is_answered_by_the_model_that_took_it(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(folders["sky"], folder)
    done, busy = threading.Event(), threading.Event()
    with TestClient(create_app(Settings(checkpoint=folder))) as client:
        wait_until_loaded(client)
        old = client.post("/predict", json={"inputs": "x"}).json()["model"]
        with monkeypatch.context() as held:
            hold_until(held, done, busy)
            answers: list[Any] = []
            caller = threading.Thread(
                target=lambda: answers.append(client.post("/predict", json={"inputs": "slow", "explain": True}).json())
            )
            caller.start()
            busy.wait()
        swap(folder, folders["sea"])
        assert reload(client) == []
        now = client.post("/predict", json={"inputs": "x"}).json()
        assert now["model"] != old
        assert now["predictions"][0]["label"] in LABELS["sea"]
        done.set()
        caller.join()
    assert answers[0]["model"] == old
    assert answers[0]["predictions"][0]["label"] in LABELS["sky"]
