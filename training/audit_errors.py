"""Likely label errors: cleanlab on what a linear baseline says of texts that it was not fitted to.

Northcutt, Jiang and Chuang, "Confident learning", 2021.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlp_app.errors import DataError
from training.audit_findings import Finding, Part
from training.audit_labels import label_counts, one_spelling

FOLDS = 5
FEATURES = 1 << 18
WORDS_AND_PAIRS = 12_000_000
"""Characters; of more text words alone are read, for time."""


def check_errors(part: Part, *, seed: int, most: int) -> Iterator[Finding]:
    """Rows whose label the baseline does not believe; labels that case or space alone tell apart are one.

    Raises:
        DataError: cleanlab is missing, or the texts have no labels to judge by.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from cleanlab.filter import find_label_issues
    except ImportError:
        raise DataError("likely label errors need cleanlab: pip install 'nlp_app[audit]'") from None
    if any(len(labels) != 1 for labels in part.labels):
        raise DataError("likely label errors are looked for where each text has one label")
    one_way = one_spelling(label_counts([part]))
    label_of = [one_way.get(label, label) for (label,) in part.labels]
    counts = Counter(label_of)
    rows = [row for row, text in enumerate(part.texts) if text.strip() and counts[label_of[row]] >= 2 * FOLDS]
    labels = sorted({label_of[row] for row in rows})
    if len(labels) < 2:
        raise DataError(f"likely label errors need two labels with {2 * FOLDS} texts or more each")
    targets = np.array([labels.index(label_of[row]) for row in rows])
    believed = out_of_fold([part.texts[row] for row in rows], targets, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        issues = find_label_issues(targets, believed, return_indices_ranked_by="self_confidence", n_jobs=1)
    if len(issues):
        yield Finding(
            name="label-errors", severity="medium", count=len(issues), of=len(part),
            what=f"{len(issues):,} labels of {part.name} are not what a linear baseline makes of the other texts",
            advice="look at them from the top: the first are the surest",
            examples=[
                part.example(rows[row], f"rather {labels[int(believed[row].argmax())]}") for row in issues[:most]
            ],
            details={"rows": [rows[row] for row in issues.tolist()]},
        )  # fmt: skip


def out_of_fold(texts: list[str], targets: NDArray[np.int64], *, seed: int) -> NDArray[np.float64]:
    """(N, C) probabilities of each text by a model of the other folds.

    Raises:
        DataError: no word is in two texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    pairs = 2 if sum(map(len, texts)) <= WORDS_AND_PAIRS else 1
    vectorizer = TfidfVectorizer(
        ngram_range=(1, pairs), sublinear_tf=True, min_df=2 if len(texts) > 500 else 1, max_features=FEATURES,
        token_pattern=r"(?u)\w+|[^\w\s]",  # noqa: S106
    )  # fmt: skip
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:
        raise DataError(
            "likely label errors are looked for by words, of which these texts have none in common"
        ) from None
    machine = SGDClassifier(loss="log_loss", alpha=1e-5, average=True, max_iter=20, tol=1e-3, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = cross_val_predict(
            machine, features, targets, cv=folds, method="predict_proba", n_jobs=min(2, os.cpu_count() or 1)
        )
    return np.asarray(found, dtype=np.float64)
