"""The output folder of a run: checked before anything is read, held while the run lasts, left clean."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nlp_app.errors import OutputError
from nlp_app.folder import (
    RESUME,
    is_complete,
    is_mount_point,
    is_previous,
    locked,
    previous_folder,
    strangers,
    work_folder,
    writing,
)  # fmt: skip
from training.fit import INTERRUPTED
from training.options import Options
from training.reliability import check_plot
from training.state import STATE
from training.writable import check_outside


def check_output(options: Options) -> None:
    """Raise an OutputError where the run could not write its result, or would overwrite what nobody gave up."""
    work = work_folder(options.output)
    check_outside("--output", options.output)
    if options.reliability_plot is not None:
        check_plot(options.reliability_plot)
        _check_beside("--reliability-plot", options.reliability_plot, options.output)
    if options.cache_dir is not None:
        check_outside("--cache-dir", options.cache_dir)
        _check_beside("--cache-dir", options.cache_dir, options.output)
    _check_siblings(work, previous_folder(options.output))
    if work.exists():
        with locked(work):  # or another run is at it
            pass
    _check_content(options, work)


def _check_content(options: Options, work: Path) -> None:
    """Raise an OutputError where a model, or an interrupted run, would be lost."""
    output, state = options.output, work / RESUME / STATE
    if options.resume:
        if not state.is_file():
            raise OutputError(f"there is no interrupted run to go on with in {work}: leave --resume out")
    elif state.is_file() and not options.overwrite:
        raise OutputError(f"{work} holds an interrupted run: go on with --resume, or start over with --overwrite")
    if not output.exists():
        return
    if not output.is_dir():
        raise OutputError(f"--output {output} is a file: name a folder")
    content = [path.name for path in output.iterdir() if path.name not in (work.name, "lost+found")]
    if not content and is_mount_point(output):
        return
    if not options.overwrite and not options.resume:
        raise OutputError(f"--output {output} exists: name another folder, or replace it with --overwrite")
    if content and not is_complete(output):
        raise OutputError(
            f"--output {output} is not a checkpoint, which is all that a run replaces: name another folder"
        )
    if kept := strangers(output):
        raise OutputError(
            f"--output {output} holds {kept[0]!r}, which the run would remove though it is no part of a "
            "checkpoint: move it away, or name another folder"
        )


def holds_finished_model(output: Path) -> bool:
    """Whether a model stands there that a run ended, and that one which was interrupted must not replace."""
    if not is_complete(output):
        return False
    try:
        metrics = json.loads((output / "metrics.json").read_bytes())
        return bool(metrics["train"]["stopped_because"] != INTERRUPTED)
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _check_beside(flag: str, path: Path, output: Path) -> None:
    """Raise an OutputError where something would stand in the output folder, or in its place."""
    if output.resolve() in (path.resolve(), *path.resolve().parents):
        raise OutputError(
            f"{flag} {path} lies in --output {output}, which is for the checkpoint alone: name a place outside of it"
        )


def _check_siblings(work: Path, previous: Path) -> None:
    """Raise an OutputError where a name that the run needs is somebody's."""
    if previous.exists() and not is_previous(previous):
        raise OutputError(f"{previous} was not left by a run, which needs that name: move it away")
    if not work.exists():
        return
    if not work.is_dir():
        raise OutputError(f"{work} is a file where the run needs a folder: move it away")
    if kept := strangers(work):
        raise OutputError(f"{work} holds {kept[0]!r}, which no run wrote: move it away, or name another --output")


@contextmanager
def work_on(options: Options) -> Iterator[Path]:
    """Hold the work folder; afterwards it is gone, unless there is a state in it to go on from."""
    work = work_folder(options.output)
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
    with locked(work):
        try:
            _check_content(options, work)  # another run may have come and gone since the first look
            if not options.resume:
                _empty(work)
            yield work
        finally:
            if not (work / RESUME / STATE).is_file() and not is_complete(work):
                shutil.rmtree(work, ignore_errors=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
