"""`python -m benchmarks.chaos`: faults in real servers under load, and what became of every request.

Each answer is compared with the in-process prediction of its text by the version that it names. The labels of
one version are those of the other turned round by one, so that an answer that mixes them is seen.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from http.client import OK
from pathlib import Path
from typing import Any

from benchmarks.common import markdown
from benchmarks.serving_load import (
    HEAD_END,
    HOST,
    LENGTH,
    allow_files,
    ask,
    body_of,
    catches,
    children,
    end_by_signal,
    free_port,
    known_flags,
    request_of,
    resident_mb,
    running,
    serve_command,
    wait_ready,
)
from nlp_app import Predictor
from nlp_app.checkpoint import load_checkpoint, save_checkpoint
from nlp_app.errors import run_command
from nlp_app.folder import CHECKPOINT_FILES, locked, publish, work_folder
from nlp_app.model import TextClassifier
from training.console import make_console

TOLERANCE = 1e-5
PATIENCE_S = 10.0
"""A request that nothing has come of by then is lost."""
CLIENTS = 32
TEXTS = 500
SHORT_S = 3
"""What a server that is tried with stalling clients gives them."""
SILENT = 10_000
FEW_FILES = 100
REFUSED_FROM = 400
PAUSE_S = 0.02
"""Between two tries to connect."""

Answers = Mapping[str, Sequence[tuple[str, float]]]
"""For each version the label and score of each text."""
Places = Sequence[int]
"""Of the texts of a request."""


class Outcome(StrEnum):
    """What became of a request."""

    RIGHT = "answered right"
    REFUSED = "refused clearly"
    BROKEN = "broken off"
    """Reset, refused or closed at once, before an answer began: the client knows."""
    LOST = "lost"
    """Nothing within PATIENCE_S."""
    TRUNCATED = "truncated"
    """An answer that ends in its midst."""
    MIXED = "mixed up"
    """Not the answer to this text."""
    UNCLEAR = "unclear"
    """An answer that is neither a prediction nor a refusal with a sentence."""


BAD = (Outcome.LOST, Outcome.TRUNCATED, Outcome.MIXED, Outcome.UNCLEAR)


def judge(status: int, body: bytes, places: Places, answers: Answers) -> Outcome:
    """What a whole answer is worth."""
    try:
        values = json.loads(body)
        if status >= REFUSED_FROM:
            return Outcome.REFUSED if isinstance(values["detail"], str) else Outcome.UNCLEAR
        found = [(one["label"], one["score"]) for one in values["predictions"]]
        version = values["model"]["version"]
    except (ValueError, KeyError, TypeError):
        return Outcome.UNCLEAR
    if status != OK:
        return Outcome.UNCLEAR
    expected = [answers[version][place] for place in places] if version in answers else []
    same = len(found) == len(expected) and all(map(_same, found, expected))
    return Outcome.RIGHT if same else Outcome.MIXED


def _same(found: tuple[str, float], expected: tuple[str, float]) -> bool:
    return found[0] == expected[0] and abs(found[1] - expected[1]) <= TOLERANCE


@dataclass(kw_only=True)
class Scenario:
    """What one scenario found."""

    name: str
    counts: Counter[Outcome] = field(default_factory=Counter)
    """Of requests that are in order."""
    faulty: Counter[Outcome] = field(default_factory=Counter)
    """Of those that are not."""
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    missing: str = ""
    """What the server does not have yet."""

    @property
    def kept(self) -> bool | None:
        """Whether nothing was lost and nothing else was amiss; None where the scenario could not be run."""
        if self.missing:
            return None
        return not self.faults and not any(self.counts[bad] for bad in BAD) and self.counts[Outcome.RIGHT] > 0

    def check(self, holds: bool, fault: str) -> None:
        """Note a fault unless it holds."""
        if not holds:
            self.faults.append(fault)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        counts = {
            name: {str(key): value for key, value in getattr(self, name).items()} for name in ("counts", "faulty")
        }
        return {"name": self.name, **counts, "notes": self.notes, "faults": self.faults, "missing": self.missing}


def section(result: Mapping[str, Any]) -> str:
    """What became of the requests of each scenario."""
    rows = []
    for values in result["scenarios"]:
        counts = {
            name: Counter({Outcome(key): count for key, count in values[name].items()}) for name in ("counts", "faulty")
        }
        found = Scenario(**{**values, **counts})
        word = {None: f"not there yet: {found.missing}", True: "kept", False: "**missed**"}[found.kept]
        notes = [note if count == 1 else f"{count} x {note}" for note, count in Counter(found.notes).items()]
        told = "; ".join([*found.faults, *notes])
        numbers = [f"{found.counts[outcome]:,}" for outcome in Outcome]
        others = ", ".join(f"{count:,} {outcome}" for outcome, count in found.faulty.items())
        rows.append((found.name, f"{found.counts.total():,}", *numbers, others, word, told))
    header = ("scenario", "requests", *Outcome, "faulty requests", "", "")
    return markdown(header, rows)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """What every scenario needs."""

    folder: Path
    """For copies of the checkpoints."""
    versions: Sequence[Path]
    answers: Answers
    texts: Sequence[str]
    requests: int
    seconds: float
    flags: frozenset[str]

    @contextmanager
    def server(
        self, *flags: object, checkpoint: Path | None = None, files: int | None = None
    ) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """A server that is ready; gives its process and its port. Of the flags those are left out that it lacks."""
        known = [value for pair in zip(flags[::2], flags[1::2], strict=True) if pair[0] in self.flags for value in pair]
        port = free_port()
        command = serve_command(checkpoint or self.versions[0], port, "--log-level", "critical", *known)
        with running(command, files=files) as process:
            wait_ready(process, port)
            yield process, port


# Clients


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes] | Outcome:
    """Send a request and read its answer: status and body, or why there is none."""
    begun = False
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(request)
            head = await reader.readuntil(HEAD_END)
            begun = True
            length = LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else await reader.read()
            return int(head[9:12]), body
    except TimeoutError:
        return Outcome.LOST
    except asyncio.IncompleteReadError as error:
        return Outcome.TRUNCATED if begun or error.partial else Outcome.BROKEN
    except OSError:
        return Outcome.BROKEN


class Load:
    """Clients that each ask again when they have their answer, until they are told to stop."""

    def __init__(self, lab: Lab, port: int, *, clients: int = CLIENTS, most: int = 1, limit: int | None = None) -> None:
        """Prepare them.

        Args:
            lab: texts and answers.
            port: where to ask.
            clients: connections.
            most: texts in a request; above 1 half of the requests have several.
            limit: requests after which they stop by themselves.
        """
        self.counts: Counter[Outcome] = Counter()
        self.stopped = asyncio.Event()
        self.flying: dict[int, float] = {}
        """When each client sent the request that it waits for."""
        self.ended: list[tuple[float, float, Outcome]] = []
        """When requests were sent and ended that had no right answer."""
        self._lab, self._port, self._clients, self._most, self._limit = lab, port, clients, most, limit

    async def run(self) -> None:
        """Until stopped is set."""
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        chance = random.Random(number)
        while not self.stopped.is_set():
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, self._port), PATIENCE_S)
            except TimeoutError:
                self._count(Outcome.LOST)
                continue
            except OSError:
                self._count(Outcome.BROKEN)
                await asyncio.sleep(PAUSE_S)
                continue
            try:
                while not self.stopped.is_set() and await self._ask(number, chance, reader, writer):
                    pass
            finally:
                writer.close()

    async def _ask(
        self, number: int, chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request; gives whether the connection can be used again."""
        places, request = self._draw(chance)
        self.flying[number] = sent = time.monotonic()
        found = await exchange(reader, writer, request)
        del self.flying[number]
        outcome = found if isinstance(found, Outcome) else judge(*found, places, self._lab.answers)
        self._count(outcome)
        if outcome is not Outcome.RIGHT:
            self.ended.append((sent, time.monotonic(), outcome))
        return not isinstance(found, Outcome)

    def _draw(self, chance: random.Random) -> tuple[list[int], bytes]:
        several = self._most > 1 and chance.random() < 0.5
        places = chance.choices(range(len(self._lab.texts)), k=chance.randint(2, self._most) if several else 1)
        asked = [self._lab.texts[place] for place in places]
        return places, request_of(body_of(asked if several else asked[0]))

    def _count(self, outcome: Outcome) -> None:
        self.counts[outcome] += 1
        if self._limit is not None and self.counts.total() >= self._limit:
            self.stopped.set()


@asynccontextmanager
async def under_load(load: Load, found: Scenario) -> AsyncIterator[Load]:
    """The clients ask while this is entered; what they found is counted."""
    running_load = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stopped.set()
        await running_load
        found.counts.update(load.counts)


async def faulty(port: int, send: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> Outcome:
    """A client that sends what is not in order; what it is answered."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return Outcome.BROKEN
    sending = asyncio.ensure_future(send(writer))
    try:
        found = await exchange(reader, writer, b"")
        return found if isinstance(found, Outcome) else judge(*found, (), {})
    finally:
        sending.cancel()
        with suppress(OSError, asyncio.CancelledError):
            await sending
        writer.close()


# Scenarios


async def sigterm(lab: Lab, found: Scenario) -> None:
    """Each request that the server had gets its answer, and it exits with 0."""
    for _ in range(5):
        with lab.server() as (process, port):
            async with under_load(Load(lab, port, most=100), found) as load:
                await asyncio.sleep(lab.seconds / 5)
                told, waiting = time.monotonic(), len(load.flying)
                process.terminate()
                await asyncio.sleep(10 * PAUSE_S)  # some ask a server that is stopping
                load.stopped.set()
                await asyncio.to_thread(process.wait)
            had = [sent for sent, _, outcome in load.ended if outcome is not Outcome.REFUSED and sent < told - 0.05]
            found.check(not had, f"{len(had)} of {waiting} requests that it had when it was told to stop got no answer")
            found.check(process.returncode == 0, f"exit code {process.returncode}")
            found.notes.append(f"{waiting} waited")


async def hang_up(lab: Lab, found: Scenario) -> None:
    """Clients that go at any moment of a request."""
    chance, gone = random.Random(0), 0

    async def client(port: int) -> None:
        nonlocal gone
        request = request_of(body_of(chance.choices(lab.texts, k=chance.choice((1, 100)))))
        with suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(request[: chance.randint(0, len(request))] if chance.random() < 0.5 else request)
            await asyncio.sleep(chance.random() * 0.01)
            if chance.random() < 0.5:
                writer.transport.abort()
            else:
                writer.close()
            gone += 1

    with lab.server() as (process, port):
        async with under_load(Load(lab, port), found):
            until = time.monotonic() + lab.seconds
            while time.monotonic() < until:
                await asyncio.gather(*(client(port) for _ in range(8)))
        found.notes.append(f"{gone:,} hung up")
        _still_well(process, port, found)


async def half_a_body(lab: Lab, found: Scenario) -> None:
    """Clients that send half of what they announce, and wait."""
    request = request_of(body_of(lab.texts[0]))

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(request[:-10])

    await _stalling(lab, found, send)


async def one_byte_a_second(lab: Lab, found: Scenario) -> None:
    """Clients that send a byte a second."""
    request = request_of(body_of(lab.texts[0] * 10))

    async def send(writer: asyncio.StreamWriter) -> None:
        for place in range(len(request)):
            writer.write(request[place : place + 1])
            await asyncio.sleep(1)

    await _stalling(lab, found, send)


async def endless_body(lab: Lab, found: Scenario) -> None:
    """A chunked body that has no end."""
    lines = ["POST /predict HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join(lines).encode() + HEAD_END)
        while True:
            writer.write(chunk)
            await writer.drain()

    await _stalling(lab, found, send)


async def _stalling(lab: Lab, found: Scenario, send: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
    flags = ("--header-timeout-s", SHORT_S, "--body-timeout-s", SHORT_S)
    with lab.server(*flags) as (process, port):
        async with under_load(Load(lab, port, clients=8), found):
            found.faulty.update(await asyncio.gather(*(faulty(port, send) for _ in range(50))))
            await asyncio.sleep(lab.seconds)
        _still_well(process, port, found)
    lost = found.faulty[Outcome.LOST]
    found.check(not lost, f"{lost} clients that stall are held for {PATIENCE_S:.0f} s and more")


async def silent_connections(lab: Lab, found: Scenario) -> None:
    """Very many connections that say nothing."""
    allow_files(SILENT)
    with lab.server() as (process, port):
        async with under_load(Load(lab, port), found):
            kept = await _silent(port, SILENT, found)
            await asyncio.sleep(lab.seconds)
            found.notes.append(f"{resident_mb(process.pid):.0f} MB beside {len(kept):,} silent connections")
            for each in kept:
                each.close()
        _still_well(process, port, found)


async def few_files(lab: Lab, found: Scenario) -> None:
    """A server that may open few files, and more connections than that."""
    with lab.server(files=FEW_FILES) as (process, port):
        async with under_load(Load(lab, port, clients=8), found):
            kept = await _silent(port, 4 * FEW_FILES, found)
            await asyncio.sleep(lab.seconds)
            for each in kept:
                each.close()
        _still_well(process, port, found)


async def _silent(port: int, count: int, found: Scenario) -> list[socket.socket]:
    kept = []
    for number in range(count):
        try:
            kept.append(await _connected(port))
        except OSError:
            found.faulty[Outcome.BROKEN] += 1
        if number % 100 == 0:
            await asyncio.sleep(PAUSE_S)
    return kept


async def _connected(port: int) -> socket.socket:
    one = socket.socket()
    one.setblocking(False)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_connect(one, (HOST, port))
    except OSError:
        one.close()
        raise
    return one


async def reload(lab: Lab, found: Scenario) -> None:
    """Another version again and again."""
    with _reloading(lab, found) as (process, port, folder):
        if process is None:
            return
        async with under_load(Load(lab, port, most=40), found):
            for number in range(50):
                await _replace(process, port, folder, lab.versions[(number + 1) % 2], found)
        _still_well(process, port, found)


async def corrupted(lab: Lab, found: Scenario) -> None:
    """A new version that is not whole: the old one goes on, and a whole one is taken again."""
    with _reloading(lab, found) as (process, port, folder):
        if process is None:
            return
        before = await served_version(port)
        async with under_load(Load(lab, port), found):
            for number in range(5):
                put(lab.versions[1], folder, spoil=CHECKPOINT_FILES[number])
                process.send_signal(signal.SIGHUP)
                await asyncio.sleep(1)
                found.check(
                    await served_version(port) == before,
                    f"another version answers after a bad {CHECKPOINT_FILES[number]}",
                )
            await _replace(process, port, folder, lab.versions[1], found)
        _still_well(process, port, found)


@contextmanager
def _reloading(lab: Lab, found: Scenario) -> Iterator[tuple[subprocess.Popen[bytes] | None, int, Path]]:
    folder = Path(tempfile.mkdtemp(dir=lab.folder)) / "served"
    put(lab.versions[0], folder)
    with lab.server(checkpoint=folder) as (process, port):
        if not catches(process.pid, signal.SIGHUP):
            found.missing = "SIGHUP ends the server"
        yield (None if found.missing else process), port, folder


async def _replace(process: subprocess.Popen[bytes], port: int, folder: Path, version: Path, found: Scenario) -> None:
    """Another version in the folder, and wait until it answers."""
    put(version, folder)
    process.send_signal(signal.SIGHUP)
    wanted, until = version.name, time.monotonic() + PATIENCE_S
    while await served_version(port) != wanted and time.monotonic() < until:
        await asyncio.sleep(PAUSE_S)
    found.check(time.monotonic() < until, f"version {wanted} did not answer within {PATIENCE_S:.0f} s")


async def served_version(port: int) -> str:
    """What /info says; empty where it does not answer."""
    try:
        return str(json.loads((await asyncio.to_thread(ask, port, "GET", "/info"))[1])["model"]["version"])
    except (OSError, ValueError, KeyError):
        return ""


async def killed_worker(lab: Lab, found: Scenario) -> None:
    """One of two workers killed, again and again."""
    if "--workers" not in lab.flags:
        found.missing = "--workers"
        return
    with lab.server("--workers", 2) as (process, port):
        async with under_load(Load(lab, port), found):
            for _ in range(5):
                await asyncio.sleep(lab.seconds / 2)
                await _has_workers(process, found)
                kill_worker(process.pid, found)
        await _has_workers(process, found)
        _still_well(process, port, found)


def workers_of(pid: int) -> list[int]:
    """The children that have a model, by their size."""
    found = []
    for child in children(pid):
        with suppress(OSError, IndexError):
            if resident_mb(child) > 100:
                found.append(child)
    return found


def kill_worker(pid: int, found: Scenario) -> None:
    """The first of two; where the other is still being started, none."""
    workers = workers_of(pid)
    if len(workers) > 1:
        os.kill(workers[0], signal.SIGKILL)
        found.notes.append("a worker killed")


async def _has_workers(process: subprocess.Popen[bytes], found: Scenario) -> None:
    until = time.monotonic() + PATIENCE_S
    while len(workers_of(process.pid)) < 2 and time.monotonic() < until:
        await asyncio.sleep(0.1)
    found.check(
        time.monotonic() < until, f"{len(workers_of(process.pid))} workers {PATIENCE_S:.0f} s after the last was killed"
    )


async def mixed(lab: Lab, found: Scenario) -> None:
    """Requests of every kind with clients that hang up, reloads and killed workers."""
    folder = Path(tempfile.mkdtemp(dir=lab.folder)) / "served"
    put(lab.versions[0], folder)
    with lab.server("--workers", 2, checkpoint=folder) as (process, port):
        events: list[Callable[[], None]] = []
        if catches(process.pid, signal.SIGHUP):
            events.append(partial(_reload_one, lab, process, folder, itertools.count(), found))
        if "--workers" in lab.flags:
            events.append(partial(kill_worker, process.pid, found))
        load = Load(lab, port, most=20, limit=lab.requests)
        async with under_load(load, found):
            await _until_stopped(load, port, events, lab)
        _still_well(process, port, found)


def _reload_one(
    lab: Lab, process: subprocess.Popen[bytes], folder: Path, numbers: Iterator[int], found: Scenario
) -> None:
    put(lab.versions[(next(numbers) + 1) % 2], folder)
    found.notes.append("a reload")
    process.send_signal(signal.SIGHUP)


async def _until_stopped(load: Load, port: int, events: Sequence[Callable[[], None]], lab: Lab) -> None:
    """Something happens each second or so, a client hangs up more often."""
    number = 0
    while not load.stopped.is_set():
        for _ in range(20):
            with suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.write(request_of(body_of(lab.texts[number % len(lab.texts)]))[:-5])
                writer.transport.abort()
            await asyncio.sleep(0.1)
        if events and not load.stopped.is_set():
            events[number % len(events)]()
        number += 1


def _still_well(process: subprocess.Popen[bytes], port: int, found: Scenario) -> None:
    """It lives and is ready."""
    found.check(process.poll() is None, f"the server has ended with {process.returncode}")
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(OSError):
            if ask(port, "GET", "/health/ready")[0] == OK:
                return
        time.sleep(PAUSE_S)
    found.faults.append(f"the server is not ready {PATIENCE_S:.0f} s after it")


SCENARIOS: dict[str, Callable[[Lab, Scenario], Coroutine[Any, Any, None]]] = {
    "sigterm": sigterm,
    "hang-up": hang_up,
    "half-a-body": half_a_body,
    "one-byte-a-second": one_byte_a_second,
    "endless-body": endless_body,
    "silent-connections": silent_connections,
    "few-files": few_files,
    "reload": reload,
    "corrupted": corrupted,
    "killed-worker": killed_worker,
    "mixed": mixed,
}


# Checkpoints


def put(version: Path, folder: Path, *, spoil: str | None = None) -> None:
    """Publish a copy of a checkpoint as a training run does; spoil turns the last byte of a file round."""
    work = work_folder(folder)
    work.mkdir(parents=True, exist_ok=True)
    with locked(work):
        for name in CHECKPOINT_FILES:
            shutil.copyfile(version / name, work / name)
        if spoil is not None:
            data = (work / spoil).read_bytes()
            (work / spoil).write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        publish(folder)


def other_version(checkpoint: Path, folder: Path) -> str:
    """Write a model whose labels are turned round by one; gives its version."""
    loaded = load_checkpoint(checkpoint)
    labels = loaded.config.labels
    module = TextClassifier(config=replace(loaded.config, labels=(*labels[1:], labels[0])))
    module.load_state_dict(loaded.module.state_dict())
    folder.mkdir()
    return save_checkpoint(
        folder,
        module=module.eval(),
        tokenizer=loaded.tokenizer,
        trained=loaded.trained,
        metrics=loaded.metrics,
        decision=loaded.decision,
    )


def make_lab(options: argparse.Namespace, folder: Path) -> Lab:
    """Two versions, each in a folder of its version's name, and their answers."""
    first = load_checkpoint(options.checkpoint)
    shutil.copytree(
        options.checkpoint, folder / first.version, ignore=lambda _, names: set(names) - set(CHECKPOINT_FILES)
    )
    turned = folder / "turned"
    versions = [folder / first.version, turned.rename(folder / other_version(options.checkpoint, turned))]
    texts = make_texts(TEXTS)
    answers = {path.name: [(one.label, one.score) for one in Predictor.load(path).predict(texts)] for path in versions}
    return Lab(
        folder=folder,
        versions=versions,
        answers=answers,
        texts=texts,
        requests=options.requests,
        seconds=options.seconds,
        flags=frozenset(known_flags()),
    )


def make_texts(count: int) -> list[str]:
    """Texts that differ, of a few words each and now and then of very many."""
    chance = random.Random(0)
    words = ["my", "your", "card", "payment", "why", "how", "was", "not", "taken", "twice", "account", "where", "cash"]
    return [
        " ".join(chance.choices(words, k=chance.choice((3, 8, 15, 150)))) + f" {number}?" for number in range(count)
    ]


def main() -> int:
    """Run the scenarios; gives 1 where one is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--requests", type=int, default=200_000, help="of the mixed run (default: 200000)")
    parser.add_argument("--seconds", type=float, default=5, help="that most other scenarios take (default: 5)")
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS), help="scenarios to run")
    parser.add_argument("--output", type=Path, help="write every figure to this JSON file")
    options = parser.parse_args()
    end_by_signal()
    with tempfile.TemporaryDirectory() as folder:
        lab = make_lab(options, Path(folder))
        found = [run(name, lab) for name in options.only]
    result = {"requests": options.requests, "scenarios": [each.to_json() for each in found]}
    make_console().print(section(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    return int(any(each.kept is False for each in found))


def run(name: str, lab: Lab) -> Scenario:
    """One scenario."""
    found = Scenario(name=name)
    try:
        asyncio.run(SCENARIOS[name](lab, found))
    except RuntimeError as error:
        found.faults.append(str(error))
    print(f"{name}: {found.counts.total():,} requests, {found.faults or 'no fault'}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    run_command(main)
