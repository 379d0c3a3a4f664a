"""The linear branch of the model: a support vector machine over the TF-IDF of hashed n-grams.

With few classes each weight is first scaled by |log ratio| + 1/2, where the ratio is that of the n-gram's share of the
texts with the class to its share of the others (Wang and Manning, "Baselines and Bigrams", 2012, whose r this is;
between their weight and none, as they advise). Figures for every choice here are in docs/decisions.md.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.model import NgramBranch
from nlp_app.ngram_batch import join
from training.batches import Dataset

KINDS = ("auto", "words", "all", "none")
CHAR_ORDERS = (2, 3, 4, 5)
CHARACTERS_TO_COUNT = 12_000_000
"""With more text than this, words alone score as well: n-grams of characters help where words are rarely seen."""
FEW_SLOTS, MANY_SLOTS = 1 << 21, 1 << 23
"""At a bit each in the checkpoint, 4 bytes in memory; the larger number where more than CHARACTERS_TO_COUNT is read."""
WEIGHT_BYTES = 32_000_000
"""For the weights of the branch, at most, in the checkpoint and in memory."""
MOST_ROWS = 1 << 20
FEW_CLASSES = 16
"""With more, the ratios are of too few texts a class to be worth it."""
TEXTS_AT_ONCE = 1024
SHIFT = 0.5
SMOOTHING = 1.0
TOLERANCE = 0.1
"""Of liblinear, its own default; a thousandth of it changed no score."""


class Labelled(NamedTuple):
    """Logits of texts that whatever gave them was not fitted to, and what is true of the texts."""

    logits: Tensor
    """(N, C)."""
    targets: Tensor
    """(N,) int64, or (N, C) of 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What the training part gave; no branch where texts are read without n-grams."""

    branch: NgramBranch | None = None
    apart: Labelled | None = None
    """Of score_apart, where thresholds are found by it."""


def plan(texts: Sequence[str], kind: str) -> tuple[int, tuple[int, ...]]:
    """The slots and the orders of characters for a training set: ModelConfig.ngram_slots and .ngram_orders."""
    return plan_for(sum(map(len, texts)), kind)


def plan_for(characters: int, kind: str) -> tuple[int, tuple[int, ...]]:
    """The same by the number of characters of all texts together."""
    if kind == "none":
        return 0, ()
    large = characters > CHARACTERS_TO_COUNT
    with_characters = kind == "all" or (kind == "auto" and not large)
    return MANY_SLOTS if large else FEW_SLOTS, CHAR_ORDERS if with_characters else ()


def fit_branch(data: Dataset, config: ModelConfig, *, class_weights: Tensor | None) -> NgramBranch:
    """Fit a branch to encoded texts; the same data gives the same weights.

    Args:
        data: N texts encoded with config.
        config: says how many slots there are; its rows are not read.
        class_weights: (C,) what an error on a text of each class weighs; None: the same.
    """
    classes = config.num_classes
    ngrams = join([text.ngrams for text in data.encoded])
    frequency = np.bincount(ngrams.slots.numpy(), minlength=config.ngram_slots)
    kept = _kept_slots(frequency, classes)
    branch = NgramBranch(slots=config.ngram_slots, rows=len(kept) + 1, classes=classes)
    seen = np.zeros(config.ngram_slots, dtype=np.uint8)
    seen[kept] = 1
    branch.seen.copy_(torch.from_numpy(np.packbits(seen, bitorder="little")))
    branch.number_rows()
    branch.idf[1:] = torch.from_numpy(np.log((1 + len(data)) / (1 + frequency[kept])) + 1)
    rows, values = branch.weigh(ngrams)
    starts = np.append(ngrams.offsets.numpy(), len(rows))
    features = scipy.sparse.csr_matrix((values.numpy(), rows.numpy(), starts), shape=(len(data), len(kept) + 1))
    weight, bias = _fit(features, data.targets.numpy(), classes, class_weights)
    with torch.no_grad():
        branch.weight.copy_(torch.from_numpy(weight.T))
        branch.weight[0] = 0
        branch.bias.copy_(torch.from_numpy(bias))
    return branch.requires_grad_(False)


def score_apart(
    data: Dataset,
    config: ModelConfig,
    *,
    folds: int,
    seed: int,
    class_weights: Tensor | None,
    check: Callable[[], None] = lambda: None,
) -> Labelled:
    """What a branch says of each text that was fitted to the other folds alone.

    Args:
        data: N texts encoded with config.
        config: says how many slots there are.
        folds: of equal size, drawn by chance: a file may take its labels in turn.
        seed: of the draw.
        class_weights: as of fit_branch.
        check: called before each fold; what it raises ends the work.
    """
    fold = torch.from_numpy(np.random.default_rng(seed).permutation(len(data)) % folds)
    scores = torch.empty(len(data), config.num_classes)
    for number in range(folds):
        check()
        branch = fit_branch(data.where(fold != number), config, class_weights=class_weights)
        scores[fold == number] = branch_logits(branch, data.where(fold == number))
    return Labelled(scores, data.targets)


def branch_logits(branch: NgramBranch, data: Dataset) -> Tensor:
    """(N, C): what the branch alone says of texts."""
    starts = range(0, len(data), TEXTS_AT_ONCE)
    chunks = [join([text.ngrams for text in data.encoded[start : start + TEXTS_AT_ONCE]]) for start in starts]
    with torch.inference_mode():
        return torch.cat([branch(chunk) for chunk in chunks])


def _kept_slots(frequency: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Every word or pair seen, and of characters and shapes what two texts have: the most frequent, up to the limit."""
    least = np.ones(len(frequency), dtype=np.int64)
    least[len(least) // 2 :] = 2
    kept = np.flatnonzero(frequency >= least)
    most = min(MOST_ROWS, WEIGHT_BYTES // (4 * classes)) - 1
    if len(kept) > most:
        kept = np.sort(kept[np.argsort(-frequency[kept], kind="stable")[:most]])
    return kept


def _fit(
    features: scipy.sparse.csr_matrix, targets: NDArray[np.generic], classes: int, class_weights: Tensor | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (C, R) and biases (C,); of two classes of which a text has one, each has half of the decision."""
    weight = np.zeros((classes, features.shape[1]), dtype=np.float32)
    bias = np.full(classes, -1.0, dtype=np.float32)  # what a machine says that has seen no text of the class
    weights = np.ones(classes) if class_weights is None else class_weights.double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a machine that has nearly converged serves as well
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # of one or two texts each
        if targets.ndim == 2:
            has = targets.astype(bool)
            each = [np.where(has[:, place], weights[place], 1) for place in range(classes)]
            _fit_each(features, has, each, weight, bias)
        elif classes <= FEW_CLASSES or len(np.unique(targets)) <= 2:
            has = targets[:, np.newaxis] == np.arange(classes)
            _fit_each(features, has, [weights[targets.astype(np.int64)]] * classes, weight, bias)
        else:  # at once: each call of the library copies the features
            machine = _machine(features).fit(features, targets, sample_weight=weights[targets.astype(np.int64)])
            weight[machine.classes_], bias[machine.classes_] = machine.coef_, machine.intercept_
    return weight, bias


def _fit_each(
    features: scipy.sparse.csr_matrix,
    has: NDArray[np.bool_],
    weights: Sequence[NDArray[np.float64]],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> None:
    """Fill weight (C, R) and bias (C,), a machine for each class that some of the texts have, (N, C), and some not."""
    present = [place for place in range(has.shape[1]) if 0 < has[:, place].sum() < len(has)]
    one_of_two = len(present) == 2 and (has[:, present].sum(axis=1) == 1).all()
    seen = (features > 0).astype(np.float64) if has.shape[1] <= FEW_CLASSES else None
    scale, machine = np.ones(1), _machine(features)
    if seen is None:
        features = features.astype(np.float64)  # once: the library would at each fit
    for place in present[:1] if one_of_two else present:  # not in threads: all fits share liblinear's random numbers
        read = features
        if seen is not None:
            scale = _ratios(seen, has[:, place])
            read = features @ scipy.sparse.diags(scale.astype(np.float32))
            machine = _machine(read)
        machine.fit(read, has[:, place], sample_weight=weights[place])
        weight[place], bias[place] = machine.coef_[0] * scale, machine.intercept_[0]
    if one_of_two:
        first, second = present
        weight[first], bias[first] = weight[first] / 2, bias[first] / 2
        weight[second], bias[second] = -weight[first], -bias[first]


def _machine(features: scipy.sparse.csr_matrix) -> LinearSVC:
    """C is of a text's squared norm, which the ratios change: told of it, one C serves all."""
    square = features.multiply(features).sum() / features.shape[0]
    return LinearSVC(C=1 / max(square, 1e-12), tol=TOLERANCE, random_state=0)


def _ratios(seen: scipy.sparse.csr_matrix, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(R,): |log of the n-gram's share in the texts inside to that in the others| + SHIFT; seen (N, R) is 0 or 1."""
    shares = []
    for rows in (inside, ~inside):
        texts = SMOOTHING + rows.astype(np.float64) @ seen
        shares.append(texts / texts.sum())
    ratios: NDArray[np.float64] = np.abs(np.log(shares[0] / shares[1])) + SHIFT
    return ratios
