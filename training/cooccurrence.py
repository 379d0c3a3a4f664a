"""Vectors of words by the company that they keep in the training texts: a start for the embedding, better than chance.

The positive pointwise mutual information of words and of the words near them, factored: Levy and Goldberg, "Neural Word
Embedding as Implicit Matrix Factorization", 2014; the contexts' frequencies to the power of 0.75, and the square root
of the singular values, as in Levy, Goldberg and Dagan, "Improving Distributional Similarity", 2015.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from nlp_app.tokenizer import PAD_ID, SPECIAL_TOKENS

STARTS = COOCCURRENCE, CHANCE = "cooccurrence", "chance"
WINDOW = 10
"""Words to either side; one n words away counts 1 / n."""
TOKENS = 1_000_000
"""Counted, about: of more, texts at even distances."""
CONTEXTS = 4096
"""The first of the vocabulary, its most frequent words; each has a vector, but only these are looked for near it."""
SMOOTHING = 0.75
SIZE = 0.2
"""The root mean square of a vector's numbers: twice that of a start by chance."""
FIRST = len(SPECIAL_TOKENS)


def word_vectors(texts: Sequence[ArrayLike], *, vocab_size: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Vectors of the words of texts, all of the same length.

    Args:
        texts: ids of tokens, the special ones first, then the frequent ones.
        vocab_size: V.
        dim: E.
        seed: of the factoring, which is approximate.

    Returns:
        (V, E) float32, and (V,) bool, which words have one: those that stand near others more often than by chance.
    """
    near = _counts(texts, vocab_size)
    information = _positive_information(near)
    rank = min(dim, *information.shape)
    vectors = np.zeros((vocab_size, dim), dtype=np.float32)
    if information.nnz:
        words, values, _ = randomized_svd(information, rank, random_state=seed, n_iter=3)
        vectors[:, :rank] = words * np.sqrt(values)
    length = np.sqrt(np.square(vectors).mean(axis=1, keepdims=True))
    has = length[:, 0] > 1e-6
    has[:FIRST] = False
    vectors[has] *= SIZE / length[has]
    vectors[~has] = 0
    return torch.from_numpy(vectors), torch.from_numpy(has)


def _counts(texts: Sequence[ArrayLike], vocab_size: int) -> scipy.sparse.csr_matrix:
    """(V, CONTEXTS at most): how often each word has each of the most frequent ones near it."""
    rows = [np.asarray(text, dtype=np.int64) for text in texts]
    every = max(1, sum(map(len, rows)) // TOKENS)
    apart = np.full(WINDOW, PAD_ID)  # so that no text is near another
    row = np.concatenate([part for text in rows[::every] for part in (text, apart)])
    shape = vocab_size, min(vocab_size, FIRST + CONTEXTS)
    counts = scipy.sparse.csr_matrix(shape)
    for distance in range(1, WINDOW + 1):
        for word, context in ((row[:-distance], row[distance:]), (row[distance:], row[:-distance])):
            counted = (word >= FIRST) & (context >= FIRST) & (context < shape[1])
            ones = np.full(int(counted.sum()), 1 / distance)
            counts += scipy.sparse.coo_matrix((ones, (word[counted], context[counted])), shape).tocsr()
    return counts


def _positive_information(counts: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """max(0, log of p(word, context) / (p(word) * p(context)))."""
    words, contexts = (np.asarray(counts.sum(axis=axis)).ravel() for axis in (1, 0))
    smoothed = contexts**SMOOTHING
    smoothed /= max(smoothed.sum(), 1e-12)
    found: scipy.sparse.coo_matrix = counts.tocoo()
    values: NDArray[np.float64] = np.log(found.data / (words[found.row] * smoothed[found.col]))
    positive = values > 0
    return scipy.sparse.csr_matrix((values[positive], (found.row[positive], found.col[positive])), counts.shape)
