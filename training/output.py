"""The output folder of a run: checked before anything is read, held while the run lasts, left clean."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nlp_app.errors import OutputError
from nlp_app.folder import MANIFEST, RESUME, is_mount_point, locked, work_folder, writing
from training.options import Options
from training.state import STATE


def check_output(options: Options) -> None:
    """Raise an OutputError where the run could not write its result, or would overwrite what nobody gave up."""
    output, work = options.output, work_folder(options.output)
    state = work / RESUME / STATE
    if options.resume:
        if not state.is_file():
            raise OutputError(f"there is no interrupted run to go on with in {work}: leave --resume out")
        return
    if state.is_file() and not options.overwrite:
        raise OutputError(f"{work} holds an interrupted run: go on with --resume, or start over with --overwrite")
    if not output.exists():
        return
    if not output.is_dir():
        raise OutputError(f"--output {output} is a file: name a folder")
    content = [path.name for path in output.iterdir() if path.name not in (work.name, "lost+found")]
    if not content and is_mount_point(output):
        return
    if not options.overwrite:
        raise OutputError(f"--output {output} exists: name another folder, or replace it with --overwrite")
    if content and MANIFEST not in content:
        raise OutputError(
            f"--output {output} is not a checkpoint, which is all that --overwrite replaces: name another folder"
        )


@contextmanager
def work_on(options: Options) -> Iterator[Path]:
    """Hold the work folder; afterwards it is gone, unless there is a state in it to go on from."""
    work = work_folder(options.output)
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
    with locked(work):
        if not options.resume:
            _empty(work)
        try:
            yield work
        finally:
            if not (work / RESUME / STATE).is_file() and not (work / MANIFEST).is_file():
                shutil.rmtree(work, ignore_errors=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
