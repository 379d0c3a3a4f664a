"""What the benchmark of few texts draws and tells, and that training takes as few as two of each class."""

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import few_texts
from benchmarks.accuracy import OURS
from benchmarks.peers import PEERS
from nlp_app import Predictor
from tests.conftest import Refused, write_csv
from tests.test_training_data import examples
from tests.test_training_run import train_main  # noqa: F401 - a fixture
from training import phases, run
from training.combine import Selected, settle

LABELS = ["a"] * 9 + ["b"] * 3 + ["c"] * 20


def test_a_draw_has_so_many_of_each_class_and_is_always_the_same() -> None:
    every = examples(LABELS, [f"text {number}" for number in range(len(LABELS))])
    drawn, other = few_texts.few(every, 5, 0), few_texts.few(every, 5, 1)
    assert Counter(drawn.labels) == {"a": 5, "b": 3, "c": 5}
    assert drawn.texts == few_texts.few(every, 5, 0).texts != other.texts
    assert set(drawn.texts) <= set(every.texts)


def test_the_table_compares_with_the_best_mean() -> None:
    """One peer is best in one draw, another on the whole."""
    accuracies = {OURS: (0.8, 0.6), **dict.fromkeys(PEERS, (0.1, 0.1))}
    first, second, *_ = PEERS
    accuracies |= {first: (0.9, 0.3), second: (0.7, 0.6)}
    rows = [
        {"set": "weather", "texts": 8, "draw": draw, "system": system, "accuracy": accuracy}
        for system, both in accuracies.items()
        for draw, accuracy in enumerate(both)
    ]
    stream = io.StringIO()
    Console(file=stream, width=400).print(few_texts.table(rows, "validation"))
    assert "70.0 ± 14.1" in stream.getvalue()
    assert "+5.0" in stream.getvalue()


@pytest.mark.parametrize("classes", [2, 6, 20])
def test_two_texts_of_each_class_are_enough_to_train_on(
    train_main: Callable[..., int],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    classes: int,
) -> None:
    told: list[int] = []

    def spy(*parts: Any, texts: int, **values: Any) -> Selected:
        told.append(texts)
        return settle(*parts, texts=texts, **values)

    monkeypatch.setattr(phases, "settle", spy)
    rows = [(f"word{label} text{copy}", f"label{label}") for label in range(classes) for copy in range(2)]
    train, output = write_csv(tmp_path / "train.csv", rows), tmp_path / "out"
    assert train_main("--train", train, "--output", output, "--quantize", "int8") == 0
    assert told == [len(rows) - Predictor.load(output).checkpoint.metrics["validation"]["texts"]]
    predictions = Predictor.load(output).predict([text for text, _ in rows])
    right = [one.label == label for one, (_, label) in zip(predictions, rows, strict=True)]
    assert sum(right) > len(right) / 2
    assert all(0 <= one.score <= 1 for one in predictions)


def test_one_text_of_each_class_is_not(refused: Refused, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", [("snow", "cold"), ("sun", "hot")])
    message = refused(run.main, "--train", train, "--output", tmp_path / "out")
    assert "every text is the only one of a label: give at least one label a second text" in message
