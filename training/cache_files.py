"""The files of a cache: tables of Arrow, each whole or absent, with their digests in a journal and then a manifest.

    FOLDER/NAME-00000.arrow …   tables, made one after the other or by several processes
    FOLDER/journal.jsonl        a line for each table that is whole, while there are more to come
    FOLDER/manifest.json        written last, in place of the journal: all of them, and what was said of the whole

A process may be killed at any point: a table without a line is made again, and so is one that is not what its line
says. Nothing is forced onto the disk, as other files of this project are: after a power cut the digests tell.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from nlp_app.errors import OutputError
from nlp_app.folder import taken

JOURNAL, MANIFEST = "journal.jsonl", "manifest.json"
NEW = ".new"
Entry = dict[str, Any]
"""What is known of a table: at least its name, bytes, sha256 and rows."""


def key_of(*parts: Any) -> str:
    """A name for what was made of these JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def write_table(path: Path, columns: dict[str, Any]) -> Entry:
    """Write columns, which are arrays of Arrow, as a table that can be mapped into memory."""
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data = sink.getvalue()
    replace_file(path, data)
    return {
        "name": path.name, "rows": batch.num_rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()
    }  # fmt: skip


def read_table(path: Path) -> Any:
    """The record batch of a table, mapped into memory."""
    with pa.memory_map(os.fspath(path)) as file:  # the map outlives the file that it was made of
        return pa.ipc.open_file(file).get_batch(0)


def replace_file(path: Path, data: Any) -> None:
    """Write a file that is whole or absent, whoever else writes the same."""
    beside = path.with_name(f"{path.name}.{os.getpid()}{NEW}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def record(folder: Path, entry: Entry) -> None:
    """Note that a table is whole."""
    with (folder / JOURNAL).open("ab") as journal:
        journal.write(json.dumps(entry).encode() + b"\n")


def whole_entries(folder: Path) -> list[Entry]:
    """The tables of the journal that are what it says, in its order; what else there is of an earlier sitting goes."""
    for path in folder.glob(f"*{NEW}"):
        path.unlink(missing_ok=True)
    kept = [entry for entry in _journal(folder) if _is_whole(folder, entry)]
    rewrite_journal(folder, kept)  # a line that was cut short would spoil the next one
    return kept


def rewrite_journal(folder: Path, entries: list[Entry]) -> None:
    """Let the journal say this."""
    replace_file(folder / JOURNAL, b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))


def seal(folder: Path, values: dict[str, Any], entries: list[Entry]) -> dict[str, Any]:
    """Write the manifest, which says that all is there."""
    manifest = {**values, "tables": entries}
    replace_file(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    (folder / JOURNAL).unlink(missing_ok=True)
    return manifest


def open_sealed(folder: Path) -> dict[str, Any] | None:
    """The manifest, where all is there and as it was written; else what is whole stands in the journal afterwards."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        entries = manifest["tables"]
    except (OSError, ValueError, KeyError, TypeError):
        (folder / MANIFEST).unlink(missing_ok=True)
        return None
    if all(_is_whole(folder, entry) for entry in entries):
        return manifest
    rewrite_journal(folder, entries)
    (folder / MANIFEST).unlink()
    return None


@contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a folder of the cache for this process, once another one that makes it is done.

    The lock goes with the process, however it ends; who only reads needs none, for what is whole is never changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not taken(descriptor):
            say(f"another run is at work on the cache in {folder}: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def caching(folder: Path, need: int) -> Iterator[None]:
    """Turn an operating system's refusal to write into one sentence.

    Args:
        folder: of the cache.
        need: bytes that it takes, about.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"the cache in {folder} cannot be written: {error.strerror or error}; name another with --cache-dir"
            ) from None
        raise OutputError(
            f"the disk is full, of which the cache in {folder} takes about {need / 1e9:,.1f} GB: free some, or name a "
            "larger disk with --cache-dir, and run the same command again, which goes on from there"
        ) from None


def _journal(folder: Path) -> list[Entry]:
    """Its lines, up to one that was cut short."""
    entries: list[Entry] = []
    try:
        lines = (folder / JOURNAL).read_bytes().splitlines()
        for line in lines:
            entries.append(json.loads(line))
    except (OSError, ValueError):
        pass
    return entries


def _is_whole(folder: Path, entry: Entry) -> bool:
    """Whether a table is what its entry says, to the bit."""
    path = folder / str(entry["name"])
    try:
        if path.stat().st_size != entry["bytes"]:
            return False
        with path.open("rb") as file:
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"])
    except OSError:
        return False
