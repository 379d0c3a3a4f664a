import math

import numpy as np
import pytest

from training.metrics import Confusion
from training.standard_error import standard_error

TRUE = ["a"] * 60 + ["b"] * 40
PREDICTED = ["a"] * 50 + ["b"] * 10 + ["b"] * 30 + ["a"] * 10
CONFUSION = Confusion.of(["a", "b"], TRUE, PREDICTED)
LOSSES = np.linspace(0, 1, 100, dtype=np.float32)


def test_of_an_accuracy_it_is_the_binomials() -> None:
    assert standard_error("accuracy", LOSSES, CONFUSION) == pytest.approx(math.sqrt(0.8 * 0.2 / 100))


def test_of_a_loss_it_is_the_standard_deviation_over_the_root_of_the_texts() -> None:
    assert standard_error("loss", LOSSES, CONFUSION) == pytest.approx(float(np.std(LOSSES, ddof=1)) / 10, rel=1e-6)
    assert standard_error("loss", LOSSES[:1], CONFUSION) == 0.0


def test_of_a_macro_f1_it_is_the_spread_of_resampled_ones() -> None:
    """Against the spread over samples of texts, drawn one by one."""
    draw = np.random.default_rng(1)
    pairs = list(zip(TRUE, PREDICTED, strict=True))
    scores = []
    for _ in range(2000):
        sample = [pairs[place] for place in draw.integers(100, size=100)]
        scores.append(Confusion.of(["a", "b"], *map(list, zip(*sample, strict=True))).macro_f1)
    error = standard_error("macro-f1", LOSSES, CONFUSION)
    assert error == pytest.approx(float(np.std(scores)), rel=0.15)
    assert error == standard_error("macro-f1", LOSSES, CONFUSION), "the same again"
