"""What every scenario of benchmarks.chaos needs: two versions of a model, texts, and a server."""

import argparse
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import OK
from pathlib import Path

from benchmarks.chaos_outcomes import PATIENCE_S, Answers, Scenario
from benchmarks.chaos_versions import other_version
from benchmarks.processes import running
from benchmarks.servers import OURS, ask, free_port, serve_command, wait_ready
from nlp_app import Predictor
from nlp_app.checkpoint import load_checkpoint
from nlp_app.folder import CHECKPOINT_FILES

TEXTS = 500
PAUSE_S = 0.02
"""Between two tries."""


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

    @contextmanager
    def server(
        self, *flags: object, checkpoint: Path | None = None, files: int | None = None, program: Sequence[object] = OURS
    ) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """A server that is ready; gives its process and its port."""
        port = free_port()
        flags = ("--log-level", "critical", *flags)
        command = serve_command(checkpoint or self.versions[0], port, *flags, program=program)
        with running(command, files=files) as process:
            wait_ready(process, port)
            yield process, port


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
    )


def make_texts(count: int) -> list[str]:
    """Texts that differ, of a few words each and now and then of very many."""
    chance = random.Random(0)
    words = ["my", "your", "card", "payment", "why", "how", "was", "not", "taken", "twice", "account", "where", "cash"]
    return [
        " ".join(chance.choices(words, k=chance.choice((3, 8, 15, 150)))) + f" {number}?" for number in range(count)
    ]


def still_well(process: subprocess.Popen[bytes], port: int, found: Scenario) -> None:
    """It lives and is ready."""
    found.check(process.poll() is None, f"the server has ended with {process.returncode}")
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(OSError):
            if ask(port, "GET", "/health/ready")[0] == OK:
                return
        time.sleep(PAUSE_S)
    found.faults.append(f"the server is not ready {PATIENCE_S:.0f} s after it")
