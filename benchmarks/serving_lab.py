"""What benchmarks.serving measures: texts, and servers on a core of their own."""

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.http_bytes import body_of
from benchmarks.load_wrk import wrk
from benchmarks.processes import running
from benchmarks.servers import free_port, serve_command, wait_ready
from nlp_app.tables import read_texts

SERVER_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 32
"""Of the closed loop and the latencies."""


@dataclass(frozen=True, kw_only=True)
class Lab:
    """What is measured, and for how long."""

    checkpoint: Path
    imdb: Path
    texts: Sequence[str]
    reviews: Sequence[str]
    seconds: float
    requests: int
    litserve: str
    known: dict[str, Any] = field(default_factory=dict)
    """What a later figure needs of an earlier one, and what is drawn."""

    @property
    def bodies(self) -> list[bytes]:
        """One short text each."""
        return [body_of(text) for text in self.texts]


def make_lab(options: argparse.Namespace) -> Lab:
    """The texts of the test files, in an order by chance that is always the same."""
    texts, reviews = (
        random.Random(0).sample(every := list(read_texts(options.data / name / "test.csv.gz", ["text"])), len(every))
        for name in ("banking77", "imdb")
    )
    return Lab(
        checkpoint=options.checkpoint,
        imdb=options.imdb,
        texts=texts,
        reviews=reviews[:2000],
        seconds=options.seconds,
        requests=options.requests,
        litserve=options.litserve,
    )


@contextmanager
def ours(checkpoint: Path) -> Iterator[tuple[int, int]]:
    """Our server; gives its port and its process."""
    port = free_port()
    with running(serve_command(checkpoint, port), core=SERVER_CORE) as process:
        wait_ready(process, port)
        yield port, process.pid


def peer_command(name: str, *values: object) -> list[object]:
    """One of the programs of benchmarks.rivals."""
    return [sys.executable, "-m", "benchmarks.rivals", name, *values]


@contextmanager
def peer(
    name: str, *values: object, path: str = "/health/ready", environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """A peer; gives its port."""
    port = free_port()
    with running(peer_command(name, port, *values), core=SERVER_CORE, environment=environment) as process:
        wait_ready(process, port, path)
        yield port


def closed(lab: Lab, port: int, connections: int = CONNECTIONS, seconds: float = 0) -> dict[str, float]:
    """Short texts, each asked for when another is answered."""
    return wrk(port, lab.bodies, connections=connections, seconds=seconds or lab.seconds, core=LOAD_CORE)
