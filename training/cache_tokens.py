"""The second stage of the cache: texts tokenised once, by as many processes as there are cores."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import tokenizers
from rich.console import Console

from nlp_app import __version__
from nlp_app.errors import OutputError
from nlp_app.tokenizer import Tokenizer
from training.cache_files import (
    NEW,
    Entry,
    alone,
    caching,
    key_of,
    open_sealed,
    read_table,
    record,
    replace_file,
    seal,
    whole_entries,
)  # fmt: skip
from training.cached_texts import CachedTexts, Tables
from training.sampled import Numbers
from training.stages import Stage

FORMAT = 1
LENGTHS, TOKENIZER = "lengths.bin", "tokenizer.json"
"""(N,) int32, in a file of its own, as an epoch looks at all of them."""
Process = subprocess.Popen[bytes]


class CachedTokens(Tables):
    """The ids of texts, mapped into memory."""

    def __init__(self, *, folder: Path, manifest: dict[str, Any]) -> None:
        super().__init__(folder=folder, manifest=manifest)
        self.tokens: int = manifest["tokens"]
        """Of all texts together."""
        self.lengths = np.memmap(folder / LENGTHS, dtype=np.int32, mode="r", shape=(len(self),))
        columns = [table["input_ids"] for table in self.tables]
        self._ends = [column.offsets.to_numpy() for column in columns]
        self._ids = [column.values.to_numpy() for column in columns]

    def at(self, rows: Numbers) -> list[Any]:
        """The ids of each of the rows, uint16 or int32."""
        places = zip(*(numbers.tolist() for numbers in self.places(rows)), strict=True)
        return [self._ids[table][self._ends[table][row] : self._ends[table][row + 1]] for table, row in places]


def cache_tokens(
    texts: CachedTexts, cache: Path, tokenizer: Tokenizer, *, max_length: int, need: int, console: Console
) -> CachedTokens:
    """The tokens of texts in the cache, where they are already, or made now.

    Raises:
        OutputError: the cache cannot be written, or a process ended before its work.
    """
    versions = FORMAT, __version__, tokenizers.__version__
    made_with = sha256(tokenizer.to_bytes()).hexdigest()
    folder = cache / f"tokens-{key_of(versions, texts.digest, made_with, max_length)}"
    with caching(folder, need), alone(folder, console.print):
        manifest = open_sealed(folder)
        if manifest is None:
            manifest = _tokenise(texts, folder, tokenizer, max_length, console)
        else:
            console.print(f"the tokens of {len(texts):,} texts are in the cache in {folder}")
    return CachedTokens(folder=folder, manifest=manifest)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tokenise(
    texts: CachedTexts, folder: Path, tokenizer: Tokenizer, max_length: int, console: Console
) -> dict[str, Any]:
    """Tokenise what is not in the folder yet; gives the manifest."""
    entries = {entry["name"]: entry for entry in whole_entries(folder) if entry["name"] != LENGTHS}
    jobs = [(texts.folder / name, folder / name.replace("texts", "tokens")) for name in texts.names]
    todo = [job for job in jobs if job[1].name not in entries]
    if entries:
        console.print(f"{len(entries):,} of {len(jobs):,} tables were tokenised before: going on from there")
    done = sum(entry["rows"] for entry in entries.values())
    with Stage(console=console, name="tokenising", done=done / len(texts)) as stage:
        replace_file(folder / TOKENIZER, tokenizer.to_bytes())
        for entry in _entries(todo, [str(folder / TOKENIZER), str(max_length)]):
            record(folder, entry)
            entries[entry["name"]] = entry
            done += entry["rows"]
            stage.advance(entry["rows"], done / len(texts))
        stage.done(f"tokenised {len(texts):,} texts")
    in_order = [entries[output.name] for _, output in jobs]
    tokens, lengths = _write_lengths(folder, in_order)
    return seal(folder, {"format": FORMAT, "tokens": tokens}, [*in_order, lengths])


def _entries(todo: list[tuple[Path, Path]], arguments: list[str]) -> Iterator[Entry]:
    """Those of the tables that are made, as they come."""
    with _processes(min(cores(), len(todo)), arguments) as idle:

        def make(job: tuple[Path, Path]) -> Entry:
            process = idle.get()
            try:
                return _ask(process, job)
            finally:
                idle.put(process)

        with ThreadPoolExecutor(max_workers=max(1, min(cores(), len(todo)))) as threads:
            futures = [threads.submit(make, job) for job in todo]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:  # Ctrl-C or a full disk: what is not begun is not made
                for future in futures:
                    future.cancel()
                raise


def _ask(process: Process, job: tuple[Path, Path]) -> Entry:
    """Have a table made."""
    assert process.stdin is not None
    assert process.stdout is not None
    texts, output = map(str, job)
    try:
        process.stdin.write(json.dumps({"texts": texts, "output": output}).encode() + b"\n")
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = b""
    if not answer:
        raise OutputError(
            f"a process that tokenises {texts} ended with {process.wait()}, as where memory runs out: "
            "run the same command again, which goes on from there"
        )
    entry: Entry = json.loads(answer)
    if "errno" in entry:
        raise OSError(entry["errno"], entry["reason"], output)
    return entry


@contextmanager
def _processes(count: int, arguments: list[str]) -> Iterator["SimpleQueue[Process]"]:
    """So many processes that tokenise, none of which outlives this."""
    # One thread each: as many processes as cores, with a pool of threads in every one, would be in each other's way.
    threads = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    environment = {**os.environ, **threads, "PYTHONPATH": path}
    idle: SimpleQueue[Process] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-m", "training.cache_worker", *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True,
                bufsize=0,
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            idle.put(process)
        yield idle


def _write_lengths(folder: Path, entries: list[Entry]) -> tuple[int, Entry]:
    """Write LENGTHS; gives the tokens of all texts together, and its entry."""
    beside, digest, tokens = folder / f"{LENGTHS}{NEW}", sha256(), 0
    with beside.open("wb") as file:
        for entry in entries:
            lengths = np.diff(read_table(folder / entry["name"])["input_ids"].offsets.to_numpy())
            tokens += int(lengths.sum(dtype=np.int64))
            file.write(data := lengths.astype(np.int32).tobytes())
            digest.update(data)
    beside.replace(folder / LENGTHS)
    rows = sum(entry["rows"] for entry in entries)
    return tokens, {"name": LENGTHS, "rows": rows, "bytes": 4 * rows, "sha256": digest.hexdigest()}
