"""An output folder that is whole or absent: written beside, swapped in, repaired after a crash at any point.

    DIR            what readers read
    DIR.partial    what is being written: a checkpoint without its manifest, and resume/, the state of the run
    DIR.previous   the old DIR, only while the swap lasts

A folder that holds MANIFEST is complete. Where DIR is a mount point it can't be renamed: then the work folder is
DIR/.partial, and its files are moved up one by one, the manifest last.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from nlp_app.errors import OutputError

MANIFEST = "manifest.json"
RESUME = "resume"
DONE = "resume.done"


def is_mount_point(folder: Path) -> bool:
    """Whether something is mounted at the folder, bind mounts of the same disk included."""
    if os.path.ismount(folder):
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:  # no Linux
        return False
    mounted = (line.split()[4].decode("unicode_escape").encode("latin-1") for line in lines)
    return os.fsencode(os.path.realpath(folder)) in mounted


def work_folder(output: Path) -> Path:
    """The folder in which the next content of output is written."""
    return output / ".partial" if is_mount_point(output) else _sibling(output, ".partial")


def previous_folder(output: Path) -> Path:
    """Where the old output stands while the swap lasts."""
    return _sibling(output, ".previous")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends, and moves with a rename.

    Raises:
        OutputError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{folder} is being written by another run: wait for it or choose another folder"
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "the disk is full; free some space and run the same command again with --resume"
        else:
            remedy = error.strerror or str(error)
        raise OutputError(f"{path} cannot be written: {remedy}") from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file that is whole or absent, and on the disk when this returns."""
    beside = path.with_name(path.name + ".new")
    with writing(path):
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


def publish(output: Path, *, keep_resume: bool = False) -> None:
    """Make the complete work folder the output; the caller holds the lock on the work folder.

    Args:
        output: the folder that readers read.
        keep_resume: leave resume/ in the work folder, so that the run can go on; otherwise it is removed.
    """
    output = Path(os.path.realpath(output))
    work = work_folder(output)
    with writing(output):
        if not keep_resume and (work / RESUME).is_dir():
            (work / RESUME).rename(work / DONE)  # at once: half a state must never look like one
        shutil.rmtree(work / DONE, ignore_errors=True)
        if is_mount_point(output):
            _move_up(work, output)
        else:
            _swap(work, output)
        _take_back_resume(output)


def repair(output: Path) -> None:
    """Finish or undo what a crash left of publish; quiet where there is nothing to do, or no right to do it.

    Safe beside a run that is alive: its lock on the work folder is respected.
    """
    output = Path(os.path.realpath(output))
    work = work_folder(output)
    with contextlib.suppress(OSError, OutputError), contextlib.ExitStack() as stack:
        if work.is_dir():
            stack.enter_context(locked(work))
        if (work / MANIFEST).is_file():
            publish(output, keep_resume=True)
        elif not output.exists() and previous_folder(output).is_dir():
            previous_folder(output).rename(output)
        elif output.is_dir():
            shutil.rmtree(previous_folder(output), ignore_errors=True)
            _take_back_resume(output)


def _sibling(output: Path, suffix: str) -> Path:
    """Beside the folder itself where output is a link to it, or a name such as `.`."""
    return Path(f"{os.path.realpath(output)}{suffix}")


def _swap(work: Path, output: Path) -> None:
    previous = previous_folder(output)
    if output.exists():
        shutil.rmtree(previous, ignore_errors=True)
        output.rename(previous)
    work.rename(output)
    _sync(output.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _move_up(work: Path, output: Path) -> None:
    (output / MANIFEST).unlink(missing_ok=True)
    for path in sorted(work.iterdir(), key=lambda path: (path.name == MANIFEST, path.name)):
        if path.name != RESUME:
            path.replace(output / path.name)
    _sync(output)
    with contextlib.suppress(OSError):  # resume/ is still in it
        work.rmdir()


def _take_back_resume(output: Path) -> None:
    """After a swap the state of an interrupted run stands in output: give it its work folder again."""
    if (output / RESUME).is_dir():
        work = work_folder(output)
        work.mkdir(exist_ok=True)
        (output / RESUME).rename(work / RESUME)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
