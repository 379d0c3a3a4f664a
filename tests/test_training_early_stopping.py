import math
from collections.abc import Sequence

import pytest

from nlp_app.errors import ConfigError
from training.early_stopping import EarlyStopping, Evaluation, Margin, best

NAN = math.nan


def run(stopping: EarlyStopping, history: Sequence[Evaluation]) -> tuple[int, int]:
    """The best evaluation and the number of evaluations made, stopping as told."""
    for made in range(1, len(history) + 1):
        if stopping.reason(history[:made]):
            return best(history[:made]), made
    return best(history), len(history)


def scores(*values: float, error: float = 0.0) -> list[Evaluation]:
    return [Evaluation(value, standard_error=error) for value in values]


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1, (4, 4)),
        ([0.1, 0.3, 0.2, 0.4], 1, (2, 3)),
        ([0.5, 0.4, 0.3, 0.6, 0.7], 3, (5, 5)),
        ([0.5, 0.4, 0.45, 0.48, 0.9], 3, (1, 4)),  # each better than its neighbour, none than the best
        ([0.5, 0.1, 0.4, 0.6], 2, (1, 3)),  # better than the worst of the window
        ([0.2, 0.3, 0.25, 0.4, 0.35, 0.5, 0.45], 2, (6, 7)),  # noise that rises
        ([0.5, 0.5, 0.5, 0.5], 2, (1, 3)),  # a plateau is no progress, and the earliest of equals is the best
        ([0.5, NAN, 0.6, NAN, NAN], 2, (3, 5)),
        ([0.5, NAN, NAN, 0.6], 2, (1, 3)),
        ([NAN, NAN, 0.1], 3, (3, 3)),
        ([NAN, NAN, 0.1], 2, (0, 2)),
        ([math.inf, 1.0], 1, (1, 2)),
        ([0.5], 1, (1, 1)),
    ],
)
def test_progress_stops_when_the_last_k_are_no_better_than_the_best_before(
    values: list[float], patience: int, expected: tuple[int, int]
) -> None:
    assert run(EarlyStopping(patience=patience, measure="accuracy"), scores(*values)) == expected


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        ("0", (6, 6)),
        ("0.015", (6, 6)),  # two steps of 0.01 are more
        ("0.02", (3, 3)),  # and no more than 0.02
        ("0.5se", (6, 6)),
        ("1se", (3, 3)),
    ],
)
def test_progress_must_be_more_than_the_margin(margin: str, expected: tuple[int, int]) -> None:
    stopping = EarlyStopping(patience=2, measure="accuracy", margin=Margin.parse(margin))
    steady = scores(0.5, 0.51, 0.52, 0.53, 0.54, 0.55, error=0.025)
    assert run(stopping, steady) == expected


def test_what_is_best_does_not_depend_on_the_margin() -> None:
    assert best(scores(0.50, 0.51, 0.505)) == 2


@pytest.mark.parametrize(
    ("losses", "threshold", "made"),
    [
        ([1.0, 0.8, 0.82, 0.85, 0.9], 5.0, 4),  # 100 * (0.85 / 0.8 - 1) = 6.25
        ([1.0, 0.8, 0.82, 0.85, 0.9], 6.3, 5),
        ([1.0, 0.8, 0.82, 0.83, 0.7, 0.71], 5.0, 6),
        ([1.0, NAN, 1.01, 1.2], 5.0, 4),
        ([NAN, NAN], 5.0, 2),
        ([0.0, 0.0, 1e-9], 5.0, 3),  # more than nothing is infinitely worse
    ],
)
def test_gl_stops_when_the_error_is_so_many_percent_over_the_lowest(
    losses: list[float], threshold: float, made: int
) -> None:
    stopping = EarlyStopping(patience=1, rule="gl", threshold=threshold)
    assert run(stopping, scores(*(-loss for loss in losses)))[1] == made


def test_gl_of_an_accuracy_is_of_the_share_of_errors() -> None:
    stopping = EarlyStopping(patience=1, rule="gl", measure="accuracy", threshold=9.0)
    assert run(stopping, scores(0.8, 0.79, 0.785, 0.78))[1] == 4  # errors 0.2, 0.21, 0.215, 0.22
    assert run(stopping, scores(0.8, 0.785))[1] == 2
    assert stopping.reason(scores(0.8, 0.785)) == ""
    assert "10.0 % worse in error than at its best, over the threshold of 9 %" in stopping.reason(scores(0.8, 0.78))


def evaluations(losses: Sequence[float], train_losses: Sequence[float]) -> list[Evaluation]:
    return [Evaluation(-loss, train) for loss, train in zip(losses, train_losses, strict=True)]


def test_pq_stops_when_the_error_grows_faster_than_training_gains() -> None:
    """GL / P at the end of a strip of 2; P = 1000 * (mean / min - 1) of the training losses in it."""
    losses = [1.0, 0.9, 0.95, 0.99]
    falling = evaluations(losses, [1.0, 0.8, 0.7, 0.6])  # GL = 10, P = 1000 * (0.65 / 0.6 - 1) = 83.3
    flat = evaluations(losses, [1.0, 0.8, 0.7, 0.69])  # P = 1000 * (0.695 / 0.69 - 1) = 7.2
    stopping = EarlyStopping(patience=2, rule="pq", threshold=0.75)
    assert stopping.reason(falling) == ""
    assert "10.0 % worse in error than at its best" in stopping.reason(flat)
    assert "training progress of 7.2" in stopping.reason(flat)
    early = evaluations([0.9, 0.8, 0.99, 0.99], [1.0, 0.7, 0.699, 0.698])
    assert [bool(stopping.reason(early[:made])) for made in (3, 4)] == [False, True], "only at the end of a strip"


def test_pq_goes_on_where_nothing_was_lost_or_nothing_is_known() -> None:
    stopping = EarlyStopping(patience=2, rule="pq", threshold=0.5)
    assert stopping.reason(evaluations([1.0, 0.9], [0.5, 0.5])) == ""
    assert stopping.reason(evaluations([1.0, NAN], [0.5, 0.4])) == ""
    assert stopping.reason(evaluations([1.0, 1.1], [0.0, 0.0])), "no loss is left to fall"


def test_the_reason_is_said_in_the_units_of_the_measure() -> None:
    stopping = EarlyStopping(patience=2, margin=Margin.parse("0.5se"))
    history = scores(-0.40, -0.39, -0.42, -0.38, error=0.05)
    assert stopping.reason(history) == (
        "the best validation loss of the last 2 evaluations, 0.3800, is not better than the best before, 0.3900 "
        "by more than 0.0250"
    )
    nothing = scores(NAN, NAN)
    assert stopping.reason(nothing) == "none of the last 2 evaluations gave a score that is a number"


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "se", "1 %", "0.5std", ""])
def test_refuses_what_is_no_margin(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--margin is {text!r}, but must be a number of 0 or more"):
        Margin.parse(text)
