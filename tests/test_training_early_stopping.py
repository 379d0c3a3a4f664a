import math

import pytest

from training.early_stopping import EarlyStopping


def run(scores: list[float], patience: int) -> tuple[int, int]:
    """The best evaluation and the number of evaluations made, stopping as told."""
    stopping = EarlyStopping(patience=patience)
    for score in scores:
        stopping.add(score)
        if stopping.should_stop:
            break
    return stopping.best, len(stopping.scores)


@pytest.mark.parametrize(
    ("scores", "patience", "best", "made"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1, 4, 4),
        ([0.1, 0.3, 0.2, 0.4], 1, 2, 3),
        ([0.5, 0.4, 0.3, 0.6, 0.7], 3, 5, 5),
        ([0.5, 0.4, 0.45, 0.48, 0.9], 3, 1, 4),  # each better than its neighbour, none than the best
        ([0.5, 0.1, 0.4, 0.6], 2, 1, 3),  # better than the worst of the window
        ([0.5, 0.5, 0.5, 0.5], 2, 1, 3),  # a plateau is no progress, and the earliest of equals is the best
        ([0.5, math.nan, 0.6, math.nan, math.nan], 2, 3, 5),
        ([math.nan, math.nan, 0.1], 3, 3, 3),
        ([math.nan, math.nan, 0.1], 2, 0, 2),
        ([math.inf, 1.0], 1, 1, 2),
    ],
)
def test_stops_when_the_last_k_are_no_better_than_the_best_before(
    scores: list[float], patience: int, best: int, made: int
) -> None:
    assert run(scores, patience) == (best, made)


def test_tells_each_improvement() -> None:
    stopping = EarlyStopping(patience=9)
    assert [stopping.add(score) for score in (0.1, 0.1, math.nan, 0.2, 0.15)] == [True, False, False, True, False]


def test_its_scores_are_its_whole_state() -> None:
    scores = [0.5, 0.4, 0.45]
    resumed = EarlyStopping(patience=2, scores=list(scores[:2]))
    resumed.add(scores[2])
    assert (resumed.best, resumed.should_stop) == (run(scores, 9)[0], True)
