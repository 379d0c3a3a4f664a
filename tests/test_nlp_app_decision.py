import numpy as np
import pytest

from nlp_app.decision import UNREACHABLE, Decision
from nlp_app.errors import ConfigError


def test_gives_the_labels_that_reach_their_threshold() -> None:
    probabilities = np.array([[0.5, 0.29], [0.49, 0.3]], dtype=np.float32)
    assert Decision().given(probabilities).tolist() == [[True, False], [False, False]]
    assert Decision(thresholds=(0.6, 0.3)).given(probabilities).tolist() == [[False, False], [False, True]]


def test_what_is_less_familiar_is_out_of_scope() -> None:
    familiarity = np.array([0.0, 0.7, 0.75, 1.0], dtype=np.float32)
    assert Decision().out_of_scope(familiarity).tolist() == [False] * 4
    assert Decision(min_familiarity=0.75).out_of_scope(familiarity).tolist() == [True, True, False, False]


def test_comes_back_from_json() -> None:
    decision = Decision(thresholds=(0.1, 0.9), min_score=0.25, min_familiarity=0.75)
    assert Decision.from_json(decision.to_json(), classes=2) == decision
    assert Decision.from_json({}, classes=3) == Decision()
    for min_score in (1, UNREACHABLE):
        assert Decision.from_json(Decision(min_score=min_score).to_json(), classes=2).min_score == min_score


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_score": 1.5}, "a threshold of the decision is 1.5, but must be a number from 0 to 1"),
        ({"min_score": float("nan")}, "is nan, but must be a number from 0 to 1"),
        ({"min_familiarity": UNREACHABLE}, "is 2.0, but must be a number from 0 to 1"),
        ({"min_familiarity": -0.1}, "is -0.1, but must be a number from 0 to 1"),
        ({"min_score": True}, "is True, but must be"),
        ({"thresholds": [0.5, "x"]}, "is 'x', but must be"),
        ({"thresholds": [0.5]}, "must be a list of 2 numbers, one a label, or of none"),
        ({"thresholds": 0.5}, "must be a list of 2 numbers"),
        ({"min_margin": 0.5}, "the decision has 'min_margin', unknown to this version"),
    ],
)
def test_refuses_what_breaks_a_rule(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Decision.from_json(values, classes=2)
    assert message in str(error.value)
