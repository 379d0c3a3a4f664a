import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nlp_app import folder
from nlp_app.errors import OutputError
from nlp_app.folder import (
    MANIFEST,
    ONNX_FILE,
    REPLACED,
    RESUME,
    is_mount_point,
    locked,
    previous_folder,
    publish,
    repair,
    work_folder,
)  # fmt: skip
from tests.conftest import ROOT

MODEL = "model.safetensors"


def fill(path: Path, content: str, *, whole: bool = True, resume: bool = False) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / MODEL).write_text(content)
    if whole:
        (path / MANIFEST).write_text(json.dumps({"format_version": 1, "sha256": content}))
    if resume:
        (path / RESUME).mkdir()
        (path / RESUME / "state.json").write_text(content)
    return path


def content(path: Path) -> str:
    assert json.loads((path / MANIFEST).read_text())["sha256"] == (path / MODEL).read_text()
    return (path / MODEL).read_text()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def names(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir())


@pytest.mark.parametrize("old", [False, True])
def test_publish_swaps_the_work_folder_in(output: Path, old: bool) -> None:
    if old:
        fill(output, "old")
    fill(work_folder(output), "new", resume=True)
    publish(output)
    assert content(output) == "new"
    assert names(output.parent) == ["out"]
    assert names(output) == [MANIFEST, MODEL]


def test_publish_can_leave_the_state_of_an_interrupted_run(output: Path) -> None:
    fill(work_folder(output), "new", resume=True)
    publish(output, keep_resume=True)
    assert content(output) == "new"
    assert names(output) == [MANIFEST, MODEL]
    assert names(work_folder(output)) == [RESUME]


@pytest.mark.parametrize("mounted", [False, True])
def test_what_was_exported_of_the_old_model_goes_with_it(
    output: Path, monkeypatch: pytest.MonkeyPatch, mounted: bool
) -> None:
    fill(output, "old")
    (output / ONNX_FILE).write_text("old")
    monkeypatch.setattr(folder, "is_mount_point", lambda path: mounted and path == output)
    fill(work_folder(output), "new")
    publish(output)
    assert names(output) == [MANIFEST, MODEL]


def test_a_link_goes_on_pointing_at_the_folder(output: Path) -> None:
    fill(output, "old")
    link = output.with_name("link")
    link.symlink_to(output, target_is_directory=True)
    fill(work_folder(link), "new")
    publish(link)
    assert content(output) == "new"
    assert names(output.parent) == ["link", "out"]


def test_the_current_folder_has_siblings_too(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fill(output, "old"))
    assert work_folder(Path()) == Path(f"{output}.partial")
    repair(Path())
    assert content(output) == "old"


class Crash(BaseException):
    """The process dies here: nothing may catch it."""


STEPS = 14


@pytest.mark.parametrize("keep_resume", [False, True])
@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("step", range(STEPS))
def test_a_crash_at_any_step_of_publish_is_repaired(
    output: Path, monkeypatch: pytest.MonkeyPatch, step: int, mounted: bool, keep_resume: bool
) -> None:
    """Die at the step-th call that changes the disk, then start anew."""
    fill(output, "old")
    monkeypatch.setattr(folder, "is_mount_point", lambda path: mounted and path == output)
    fill(work_folder(output), "new", resume=True)
    taken = 0

    def dying(real: object) -> object:
        def call(*arguments: object, **options: object) -> object:
            nonlocal taken
            if taken == step:
                raise Crash
            taken += 1
            return real(*arguments, **options)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patch:
        for owner, name in (
            (Path, "touch"),
            (Path, "rename"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "rmdir"),
            (shutil, "rmtree"),
        ):
            patch.setattr(owner, name, dying(getattr(owner, name)))
        try:
            publish(output, keep_resume=keep_resume)
        except Crash:
            crashed = True
        else:
            crashed = False
    assert crashed or taken <= step
    repair(output)
    assert content(output) == "new"
    assert names(output) in ([MANIFEST, MODEL], [".partial", MANIFEST, MODEL])
    assert not previous_folder(output).exists()
    if keep_resume:
        assert (work_folder(output) / RESUME / "state.json").read_text() == "new"


def test_a_crash_before_the_manifest_leaves_the_old(output: Path) -> None:
    fill(previous_folder(output), "old")
    (previous_folder(output) / REPLACED).touch()
    fill(work_folder(output), "new", whole=False, resume=True)
    repair(output)
    assert content(output) == "old"
    assert (work_folder(output) / RESUME).is_dir()


def test_repair_leaves_what_is_not_ours(output: Path) -> None:
    fill(output, "mine")
    fill(previous_folder(output), "a copy that somebody made")
    (work_folder(output)).mkdir()
    (work_folder(output) / MANIFEST).write_text("{}")
    repair(output)
    assert content(output) == "mine"
    assert content(previous_folder(output)) == "a copy that somebody made"
    fill(work_folder(output), "notes beside it")
    (work_folder(output) / "precious").touch()
    repair(output)
    assert content(output) == "mine"
    shutil.rmtree(output)
    repair(output)
    assert not output.exists()


def test_publish_does_not_remove_a_folder_that_is_not_ours(output: Path) -> None:
    fill(output, "old")
    fill(previous_folder(output), "a copy that somebody made")
    fill(work_folder(output), "new")
    with pytest.raises(OutputError, match="cannot be written"):
        publish(output)
    assert content(output) == "old"
    assert names(output) == [MANIFEST, MODEL]
    assert content(previous_folder(output)) == "a copy that somebody made"


def test_repair_leaves_a_living_run_alone(output: Path) -> None:
    fill(previous_folder(output), "old")
    (previous_folder(output) / REPLACED).touch()
    work = fill(work_folder(output), "new")
    with locked(work):
        repair(output)
        assert not output.exists()
    repair(output)
    assert content(output) == "new"


def test_a_lock_is_held_once_and_goes_with_its_process(output: Path) -> None:
    output.mkdir()
    program = (
        "import sys, pathlib; from nlp_app.folder import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(output)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(OutputError, match="is being written by another run"), locked(output):
            pass
        other.kill()
    with locked(output):
        pass


def test_write_file_is_whole_or_absent(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output.mkdir()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"model cannot be written: the disk is full; free some space"):
        folder.write_file(output / "model", b"data")
    assert names(output) == []


def test_finds_mount_points(tmp_path: Path) -> None:
    assert is_mount_point(Path("/proc"))
    assert is_mount_point(Path("/"))
    assert not is_mount_point(tmp_path)
    assert not is_mount_point(tmp_path / "absent")
