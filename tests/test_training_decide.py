import math

import numpy as np
import pytest
import torch

from nlp_app.decision import UNREACHABLE, Decision
from training.decide import (
    LEAST_ANSWERED,
    LEAST_TEXTS,
    MOST_FLAGGED,
    RISK,
    best_thresholds,
    decide,
    least_familiar,
    score_for,
)


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
    answered = int((scores >= score_for(0.9, scores, right)).sum())
    surely = [right[:count].mean().item() - 0.9 >= math.sqrt(0.9 * 0.1 / count) for count in range(1, 91)]
    assert answered == 90 - surely[::-1].index(True)
    assert 40 < answered < 50, "of 50 answers 45 are right, but that may be luck"


def test_texts_of_one_score_are_answered_together() -> None:
    scores = torch.tensor([0.9] * 20 + [0.5] * 20)
    right = torch.tensor([1.0] * 20 + [1.0] * 10 + [0.0] * 10)
    assert score_for(0.9, scores, right) == pytest.approx(0.9)
    assert score_for(0.6, scores, right) == pytest.approx(0.5)


def test_few_answers_prove_nothing() -> None:
    """Wilson's lower end of n right answers out of n, at a standard error, is n / (n + 1)."""
    scores, right = torch.linspace(0.9, 0.1, 40), torch.ones(40)
    assert score_for(0.95, scores[:18], right[:18]) == UNREACHABLE
    assert score_for(0.95, scores[:20], right[:20]) == pytest.approx(scores[19].item())
    right[20:] = 0
    assert score_for(0.95, scores, right) == pytest.approx(scores[19].item())
    assert score_for(1.0, scores, right) == pytest.approx(scores[19].item())
    assert score_for(0.5, scores[: LEAST_ANSWERED - 1], right[: LEAST_ANSWERED - 1]) == UNREACHABLE


def test_a_score_of_one_may_be_the_lowest_that_keeps_the_precision() -> None:
    scores = torch.tensor([1.0] * 20 + [0.5] * 20)
    assert score_for(0.9, scores, torch.tensor([1.0] * 20 + [0.0] * 20)) == 1
    assert score_for(0.9, scores, torch.zeros(40)) == UNREACHABLE


def test_the_precision_holds_on_fresh_texts() -> None:
    """Calibrated scores: a text of score s is right with the chance s."""
    generator = torch.Generator().manual_seed(0)
    reached = []
    for _ in range(100):
        scores = torch.rand(2500, generator=generator).sqrt()
        right = (torch.rand(2500, generator=generator) < scores).double()
        found = score_for(0.8, scores[:500], right[:500])
        reached.append(right[500:][scores[500:] >= found].mean().item())
    assert sum(reached) / len(reached) > 0.8
    assert sorted(reached)[10] > 0.79


@pytest.mark.parametrize("texts", [LEAST_TEXTS, 100, 436, 800])
def test_the_familiarity_below_which_surely_few_texts_lie(texts: int) -> None:
    """No higher place would do: a sum of binomial chances, worked out here in whole numbers' arithmetic."""
    familiarity = torch.linspace(0, 1, texts)[torch.randperm(texts, generator=torch.Generator().manual_seed(0))]
    below = int((familiarity < least_familiar(familiarity)).sum())

    def more_than_agreed(place: int) -> float:
        chances = (math.comb(texts, n) * MOST_FLAGGED**n * (1 - MOST_FLAGGED) ** (texts - n) for n in range(place))
        return sum(chances)

    assert more_than_agreed(below + 1) <= RISK < more_than_agreed(below + 2)


def test_few_texts_give_no_familiarity() -> None:
    assert least_familiar(torch.linspace(0.1, 1, LEAST_TEXTS - 1)) == 0
    assert least_familiar(torch.linspace(0.1, 1, LEAST_TEXTS)) == pytest.approx(0.1)
    assert least_familiar(torch.ones(0)) == 0


def test_a_decision_has_what_is_asked_for() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8]] * 50)
    assert decide(probabilities, torch.tensor([0, 1] * 50)) == Decision()
    found = decide(probabilities, torch.tensor([0, 0] * 50), target_precision=0.95)
    assert found.thresholds == ()
    assert found.min_score == pytest.approx(0.9)
    assert decide(probabilities, torch.tensor([0, 1] * 50), familiarity=probabilities[:, 0]).min_familiarity > 0
    several = decide(probabilities, torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 50))
    assert len(several.thresholds) == 2


def test_a_label_that_validation_lacks_has_its_threshold_from_other_texts() -> None:
    """Of 20 validation texts none has the second label; of 200 others ten have it, with scores about 0.3."""
    probabilities = torch.tensor([[0.9, 0.02], [0.4, 0.02]] * 10)
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]] * 10)
    others = torch.tensor([[0.9, 0.05]] * 190 + [[0.4, 0.3]] * 10)
    other_targets = torch.tensor([[1.0, 0.0]] * 190 + [[0.0, 1.0]] * 10)
    alone = decide(probabilities, targets)
    more = decide(probabilities, targets, more=(others, other_targets), target_precision=0.9)
    assert not alone.given(np.array([[0.1, 0.3]], dtype=np.float32))[0, 1], "the label with many texts stands in for it"
    assert more.given(np.array([[0.1, 0.3]], dtype=np.float32)).tolist() == [[False, True]]
    assert more.min_score == decide(probabilities, targets, target_precision=0.9).min_score, "validation texts alone"
