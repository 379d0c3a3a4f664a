"""`python -m benchmarks.parity`: whether HTTP answers what the model answers in process.

A real server is asked for each text alone, in batches of different sizes, and in shuffled order; the largest
difference of any score to Predictor's is printed, and more than 1e-5 ends with exit code 1.
"""

import argparse
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from nlp_app import Predictor
from nlp_app.errors import run_command
from nlp_app.tables import read_texts

TOLERANCE = 1e-5
BATCH_SIZES = (1, 7, 64)

Scores = dict[str, float]


def main() -> int:
    """Compare as the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--data", type=Path, required=True, help="file of texts")
    parser.add_argument("--texts", type=int, default=1000, help="texts to ask for (default: 1000)")
    options = parser.parse_args()
    texts = sample(list(read_texts(options.data, ["text"])), options.texts)
    worst = 0.0
    with serve(options.checkpoint) as address:
        for name, difference in differences(address, options.checkpoint, texts):
            print(f"{name}: {len(texts):,} texts, largest difference of a score {difference:.2e}")
            worst = max(worst, difference)
    return int(worst > TOLERANCE)


def sample(texts: Sequence[str], count: int) -> list[str]:
    """Texts in random order, the same ones each time."""
    return random.Random(0).sample(list(texts), min(count, len(texts)))


def differences(address: str, checkpoint: Path, texts: Sequence[str]) -> Iterator[tuple[str, float]]:
    """How the texts were sent, and the largest difference of a score to the one in process."""
    predictor = Predictor.load(checkpoint)
    every = len(predictor.labels)
    expected = [
        {item.label: item.score for item in prediction.scores} for prediction in predictor.predict(texts, every)
    ]
    orders = {"in order": list(range(len(texts))), "shuffled": random.Random(1).sample(range(len(texts)), len(texts))}
    with httpx2.Client(base_url=address, timeout=60) as client:
        for size in BATCH_SIZES:
            for order_name, order in orders.items():
                found = ask(client, [texts[row] for row in order], size, every)
                yield f"batches of {size}, {order_name}", largest(found, [expected[row] for row in order])


def ask(client: httpx2.Client, texts: Sequence[str], size: int, top_k: int) -> list[Scores]:
    """The scores that the server gives, in requests of `size` texts; a batch of one is sent as a bare text."""
    scores: list[Scores] = []
    for start in range(0, len(texts), size):
        batch: Any = list(texts[start : start + size])
        answer = client.post("/predict", json={"inputs": batch if size > 1 else batch[0], "top_k": top_k})
        answer.raise_for_status()
        predictions = answer.json()["predictions"]
        scores += [{item["label"]: item["score"] for item in prediction["scores"]} for prediction in predictions]
    return scores


def largest(found: Sequence[Scores], expected: Sequence[Scores]) -> float:
    """The largest difference of any score."""
    pairs = zip(found, expected, strict=True)
    return max(abs(one[label] - other[label]) for one, other in pairs for label in other)


@contextmanager
def serve(checkpoint: Path) -> Iterator[str]:
    """A server for the checkpoint in a process of its own; gives its address once it is ready."""
    command = [sys.executable, "-m", "serving", "--checkpoint", str(checkpoint), "--port", "0", "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = re.search(r"http://[\d.:]+", server.stdout.readline())
            assert address, "the server did not start"
            while httpx2.get(f"{address[0]}/health/ready").status_code != httpx2.codes.OK:
                pass
            yield address[0]
        finally:
            server.terminate()


if __name__ == "__main__":
    run_command(main)
