"""What a user would pick instead: scikit-learn pipelines and fastText, with the settings of their papers and guides."""

import re
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

Predict = Callable[[Sequence[str]], list[str]]
Fit = Callable[[Sequence[str], Sequence[str]], Predict]

LABEL = "__label__"


def words() -> Any:
    """TF-IDF of words and pairs of words."""
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)


def words_and_characters() -> Any:
    """The same beside TF-IDF of two to five characters within words."""
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    return make_union(words(), characters)


def fit_linear(
    features: Callable[[], Any], model: Callable[[], Any], texts: Sequence[str], labels: Sequence[str]
) -> Predict:
    """A scikit-learn pipeline."""
    pipeline = make_pipeline(features(), model()).fit(texts, labels)
    return lambda asked: list(pipeline.predict(asked))


def fit_fasttext(epoch: int, texts: Sequence[str], labels: Sequence[str]) -> Predict:
    """Bag of Tricks for Efficient Text Classification (Joulin et al. 2016): bigrams, lower-cased, on two threads."""
    import fasttext

    places = {label: number for number, label in enumerate(sorted(set(labels)))}
    names = {f"{LABEL}{number}": label for label, number in places.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        lines = [f"{LABEL}{places[label]} {plain(text)}\n" for text, label in zip(texts, labels, strict=True)]
        path.write_text("".join(lines), encoding="utf-8")
        model = fasttext.train_supervised(str(path), wordNgrams=2, lr=0.5, epoch=epoch, dim=100, thread=2, verbose=0)
    # model.predict does not run with numpy 2; what it calls does.
    return lambda asked: [names[model.f.predict(f"{plain(text)}\n", 1, 0.0, "strict")[0][1]] for text in asked]


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
