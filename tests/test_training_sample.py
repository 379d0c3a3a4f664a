"""The sample set is what its README says: distinct, split cleanly, neither trivial nor noise."""

from collections import Counter

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from training.data import Examples, read_examples
from training.options import SAMPLE


def read(part: str) -> Examples:
    return read_examples(SAMPLE / f"{part}.csv", text_columns=["text"], label_column="label")


TRAIN, TEST = read("train"), read("test")


def folded(examples: Examples) -> list[str]:
    return [" ".join("".join(c if c.isalnum() else " " for c in text.lower()).split()) for text in examples.texts]


def test_there_are_enough_distinct_texts() -> None:
    assert len(set(folded(TRAIN))) == len(TRAIN) >= 1600
    assert len(set(folded(TEST))) == len(TEST) >= 400


def test_no_test_text_is_in_train() -> None:
    assert not set(folded(TRAIN)) & set(folded(TEST))


def test_every_intent_is_in_both_parts() -> None:
    train, test = Counter(TRAIN.labels), Counter(TEST.labels)
    assert train.keys() == test.keys()
    assert len(train) >= 8
    assert min(train.values()) >= 100
    assert min(test.values()) >= 30


def test_texts_are_of_every_length() -> None:
    words = sorted(len(text.split()) for text in TRAIN.texts)
    assert words[len(words) // 10] <= 5
    assert words[-len(words) // 10] >= 35


def test_no_template() -> None:
    """Texts that begin with the same four words are rare."""
    openings = Counter(tuple(text.split()[:4]) for text in folded(TRAIN) if len(text.split()) > 4)
    assert openings.most_common(1)[0][1] <= 8
    assert sum(count for count in openings.values() if count > 1) <= 0.1 * len(TRAIN)


def test_it_is_neither_trivial_nor_noise() -> None:
    baseline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
    accuracy = baseline.fit(TRAIN.texts, TRAIN.labels).score(TEST.texts, TEST.labels)
    assert 0.75 <= accuracy <= 0.95
