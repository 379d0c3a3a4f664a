"""What a user would pick instead: scikit-learn pipelines and fastText, with the settings of their papers and guides."""

import re
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.svm import LinearSVC

Answers = list[tuple[str, ...]]
"""The labels given to each text: one, or where texts may have several any number."""
Predict = Callable[[Sequence[str]], Answers]

LABEL = "__label__"


def words() -> Any:
    """TF-IDF of words and pairs of words."""
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)


def words_and_characters() -> Any:
    """The same beside TF-IDF of two to five characters within words."""
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    return make_union(words(), characters)


class Fit(Protocol):
    """Trains a peer."""

    def __call__(self, texts: Sequence[str], labels: Answers, *, several: bool) -> Predict:
        """Give what answers, having learnt from texts and their labels."""


def fit_linear(
    features: Callable[[], Any], model: Callable[[], Any], texts: Sequence[str], labels: Answers, *, several: bool
) -> Predict:
    """A scikit-learn pipeline; for several labels a text one against the rest."""
    if several:
        binarizer = MultiLabelBinarizer()
        pipeline = make_pipeline(features(), OneVsRestClassifier(model()))
        pipeline.fit(texts, binarizer.fit_transform(labels))
        return lambda asked: binarizer.inverse_transform(pipeline.predict(asked))
    pipeline = make_pipeline(features(), model()).fit(texts, [label for (label,) in labels])
    return lambda asked: [(label,) for label in pipeline.predict(asked)]


def fit_fasttext(epoch: int, texts: Sequence[str], labels: Answers, *, several: bool) -> Predict:
    """Bag of Tricks for Efficient Text Classification (Joulin et al. 2016): bigrams, lower-cased, on two threads."""
    import fasttext

    places = {label: number for number, label in enumerate(sorted({label for one in labels for label in one}))}
    names = {f"{LABEL}{number}": label for label, number in places.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        marked = [" ".join(f"{LABEL}{places[label]}" for label in one) for one in labels]
        lines = [f"{mark} {plain(text)}\n" for text, mark in zip(texts, marked, strict=True)]
        path.write_text("".join(lines), encoding="utf-8")
        model = fasttext.train_supervised(
            str(path), wordNgrams=2, lr=0.5, epoch=epoch, dim=100, thread=2, verbose=0,
            loss="ova" if several else "softmax",
        )  # fmt: skip
    # model.predict does not run with numpy 2; what it calls does.
    most, least = (-1, 0.5) if several else (1, 0.0)

    def predict(asked: Sequence[str]) -> Answers:
        found = [model.f.predict(f"{plain(text)}\n", most, least, "strict") for text in asked]
        return [tuple(names[name] for _, name in one) for one in found]

    return predict


def plain(text: str) -> str:
    """Lower case, symbols apart, one space between."""
    return " ".join(re.sub(r"([^\w\s])", r" \1 ", text.lower()).split())


PEERS: dict[str, Fit] = {
    "tfidf(1,2)+LinearSVC": partial(fit_linear, words, LinearSVC),
    "tfidf(1,2)+LogReg": partial(fit_linear, words, partial(LogisticRegression, C=10, max_iter=300)),
    "tfidf word(1,2)+char_wb(2,5)+LinearSVC": partial(fit_linear, words_and_characters, LinearSVC),
    "fastText bigram epoch=5": partial(fit_fasttext, 5),
    "fastText bigram epoch=25": partial(fit_fasttext, 25),
}
