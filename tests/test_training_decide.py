import pytest
import torch

from nlp_app.decision import Decision
from training.decide import LEAST_ANSWERED, best_thresholds, decide, score_for


def test_a_threshold_parts_the_texts_that_have_the_label_from_the_others() -> None:
    probabilities = torch.tensor([[0.30, 0.9], [0.25, 0.8], [0.10, 0.7], [0.05, 0.6]] * 30)
    targets = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]] * 30)
    first, second = best_thresholds(probabilities, targets)
    assert 0.10 < first <= 0.25
    assert 0.80 < second <= 0.90


def test_a_label_with_no_text_takes_what_serves_all() -> None:
    probabilities = torch.tensor([[0.30, 0.30], [0.25, 0.01], [0.10, 0.01], [0.05, 0.01]] * 30)
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]] * 30)
    first, second = best_thresholds(probabilities, targets)
    assert 0.10 < first <= 0.25
    assert 0.10 < second <= 0.99


def test_the_lowest_score_that_keeps_the_precision() -> None:
    scores = torch.linspace(0.99, 0.10, 90)
    right = torch.tensor([1.0] * 40 + [0.0, 1.0] * 25)
    found = score_for(0.9, scores, right)
    answered = scores >= found
    assert right[answered].mean() >= 0.9
    lower = scores >= scores[answered.sum()]
    assert right[lower].mean() < 0.9


def test_texts_of_one_score_are_answered_together() -> None:
    scores = torch.tensor([0.9] * 20 + [0.5] * 20)
    right = torch.tensor([1.0] * 20 + [1.0] * 10 + [0.0] * 10)
    assert score_for(0.9, scores, right) == pytest.approx(0.9)
    assert score_for(0.75, scores, right) == pytest.approx(0.5)


def test_few_answers_prove_nothing() -> None:
    scores = torch.linspace(0.9, 0.1, 20)
    right = torch.tensor([1.0] * (LEAST_ANSWERED - 1) + [0.0] * (21 - LEAST_ANSWERED))
    assert score_for(0.95, scores, right) == 1.0
    assert score_for(0.95, scores[:3], right[:3]) == 1.0


def test_a_decision_has_what_is_asked_for() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8]] * 10)
    assert decide(probabilities, torch.tensor([0, 1] * 10)) == Decision()
    found = decide(probabilities, torch.tensor([0, 0] * 10), target_precision=0.95)
    assert found.thresholds == ()
    assert found.min_score == pytest.approx(0.9)
    several = decide(probabilities, torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 10))
    assert len(several.thresholds) == 2
