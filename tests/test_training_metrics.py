import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from training.metrics import Confusion

LABELS = ("a", "b", "c", "d")
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60)


@given(PAIRS)
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    true, predicted = map(list, zip(*pairs, strict=True))
    confusion = Confusion.of(LABELS, true, predicted)
    assert confusion.accuracy == pytest.approx(accuracy_score(true, predicted))
    assert np.array_equal(confusion.counts, confusion_matrix(true, predicted, labels=LABELS))
    expected = precision_recall_fscore_support(true, predicted, labels=LABELS, zero_division=0)
    for found, values in zip((confusion.precision, confusion.recall, confusion.f1), expected, strict=False):
        assert found == pytest.approx(values)
    macro = precision_recall_fscore_support(true, predicted, average="macro", zero_division=0)
    values = confusion.to_json()
    assert [values[f"macro_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(macro[:3])
    assert values["texts"] == len(pairs)


def test_worst_pairs_are_the_largest_cells_off_the_diagonal() -> None:
    confusion = Confusion.of(LABELS, list("aaaabbc"), list("abbcbac"))
    assert confusion.worst_pairs(2) == [("a", "b", 2), ("a", "c", 1)]
    assert confusion.worst_pairs(99) == [("a", "b", 2), ("a", "c", 1), ("b", "a", 1)]


def test_no_text_scores_0() -> None:
    confusion = Confusion.of(LABELS, [], [])
    assert (confusion.accuracy, confusion.macro_f1, confusion.worst_pairs(3)) == (0.0, 0.0, [])
