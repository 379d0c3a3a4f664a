"""An output folder that is whole or absent: written beside, swapped in, repaired after a crash at any point.

    DIR            what readers read
    DIR.partial    what is being written: a checkpoint without its manifest, and resume/, the state of the run
    DIR.previous   the old DIR, only while the swap lasts

A folder whose MANIFEST names digests is complete. A sibling that this program did not make is never touched:
DIR.previous is its own where REPLACED stands in it, DIR.partial where nothing but files of its own does. Where DIR is
a mount point it can't be renamed: then the work folder is DIR/.partial, and its files are moved up one by one, the
manifest last.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from nlp_app.errors import OutputError

MANIFEST = "manifest.json"
ONNX_FILE = "model.onnx"
"""Of the same model, where training.export wrote it; no part of the checkpoint."""
CHECKPOINT_FILES = ("model.safetensors", "config.json", "tokenizer.json", "golden.json", "metrics.json", MANIFEST)
RESUME = "resume"
DONE = "resume.done"
REPLACED = "replaced"
NEW = ".new"


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


def is_complete(folder: Path) -> bool:
    """Whether it holds a checkpoint's manifest, not just any file of that name."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"format_version", "sha256"} <= manifest.keys()


def is_previous(folder: Path) -> bool:
    """Whether a swap put it aside, and it is not a folder that somebody named so."""
    return (folder / REPLACED).is_file()


def strangers(folder: Path) -> list[str]:
    """The names in a folder that this program never writes there."""
    known = {
        *CHECKPOINT_FILES,
        *(name + NEW for name in CHECKPOINT_FILES),
        RESUME,
        DONE,
        REPLACED,
        ".partial",
        "lost+found",
    }
    return sorted(path.name for path in folder.iterdir() if path.name not in known)


def taken(descriptor: int) -> bool:
    """Take the lock of an open file or folder until it is closed; False where another process, or opening, has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_among(path: Path, files: Iterable[Path]) -> bool:
    """Whether a path leads to one of the files, under whatever name."""
    return path.exists() and any(file.exists() and path.samefile(file) for file in files)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends, and moves with a rename.

    Raises:
        OutputError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not taken(descriptor):
            raise OutputError(f"{folder} is being written by another run: wait for it or choose another folder")
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
    beside = path.with_name(path.name + NEW)
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
        if is_complete(work) and not strangers(work):
            publish(output, keep_resume=True)
        elif not output.exists() and is_previous(previous_folder(output)):
            previous_folder(output).rename(output)
            (output / REPLACED).unlink()
        elif is_complete(output):
            _remove_previous(output)
            _take_back_resume(output)


def _sibling(output: Path, suffix: str) -> Path:
    """Beside the folder itself where output is a link to it, or a name such as `.`."""
    return Path(f"{os.path.realpath(output)}{suffix}")


def _remove_previous(output: Path) -> None:
    previous = previous_folder(output)
    if not is_previous(previous):
        return
    for path in previous.iterdir():
        if path.name != REPLACED:  # the mark goes last, or a crash would leave a folder that is nobody's
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(previous)


def _swap(work: Path, output: Path) -> None:
    if output.exists():
        _remove_previous(output)
        (output / REPLACED).touch()
        try:
            output.rename(previous_folder(output))
        except OSError:  # somebody's own folder stands there
            (output / REPLACED).unlink()
            raise
    work.rename(output)
    _sync(output.parent)
    _remove_previous(output)


def _move_up(work: Path, output: Path) -> None:
    (output / MANIFEST).unlink(missing_ok=True)
    (output / ONNX_FILE).unlink(missing_ok=True)  # of the model that was there
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
