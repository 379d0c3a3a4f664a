from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.test_training_pretrain import prepared_for
from training import cooccurrence, start
from training.cooccurrence import SIZE, word_vectors

COLD, HOT, SNOW, ICE, SUN, FIRE = range(2, 8)
TEXTS = [[COLD, SNOW], [COLD, ICE], [HOT, SUN], [HOT, FIRE]] * 5


def vectors(texts: list[list[int]], **values: int) -> tuple[torch.Tensor, torch.Tensor]:
    return word_vectors(texts, **{"vocab_size": 9, "dim": 4, "seed": 0} | values)


def test_words_with_the_same_neighbours_have_the_same_direction() -> None:
    found, has = vectors(TEXTS)
    assert has.tolist() == [False] * 2 + [True] * 6 + [False], "PAD, UNK and a word that no text has have none"
    likeness = F.cosine_similarity(found[:, None], found[None], dim=2)
    assert likeness[SNOW, ICE] > 0.99
    assert likeness[SUN, FIRE] > 0.99
    assert likeness[SNOW, SUN].abs() < 0.01
    assert found.square().mean(dim=1)[has].sqrt().tolist() == pytest.approx([SIZE] * 6)
    assert found[~has].count_nonzero() == 0


def test_counts_fall_with_the_distance_and_end_with_the_text() -> None:
    counts = cooccurrence._counts([[2, 3, 4], [5], [2, 5, 1, 5]], 9).toarray()
    assert counts[2, 3] == counts[3, 2] == counts[3, 4] == 1
    assert counts[2, 4] == counts[4, 2] == 0.5
    assert counts[2, 5] == counts[5, 2] == pytest.approx(1 + 1 / 3)
    assert counts[5, 5] == 2 * 0.5
    assert counts[4, 5] == 0, "of the next text"
    assert counts[[0, 1]].sum() == counts[:, [0, 1]].sum() == 0, "PAD and UNK"


def test_the_information_is_that_of_the_formula() -> None:
    counts = cooccurrence._counts([[2, 3, 2, 4], [3, 4]], 5)
    dense = counts.toarray()
    words, contexts = dense.sum(axis=1), dense.sum(axis=0) ** 0.75
    expected = np.zeros_like(dense)
    for word, context in zip(*dense.nonzero(), strict=True):
        chance = words[word] * contexts[context] / contexts.sum()
        expected[word, context] = max(0, np.log(dense[word, context] / chance))
    np.testing.assert_allclose(cooccurrence._positive_information(counts).toarray(), expected)


@pytest.mark.parametrize("texts", [[], [[1]], [[2]], [[2], [3]], [[2, 2]]])
def test_texts_without_neighbours_give_no_vectors(texts: list[list[int]]) -> None:
    found, has = vectors(texts or [[1]])
    assert torch.isfinite(found).all()
    assert not has[[0, 1]].any()


def test_of_many_texts_some_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "TOKENS", 8)
    texts = [[2, 3], [4, 5]] * 4
    assert cooccurrence._counts(texts, 9).toarray()[4].sum() == 0, "every second"


def test_the_frequent_words_alone_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "CONTEXTS", 2)
    _, has = vectors([[2, 3], [4, 5], [2, 5]])
    assert has.tolist() == [False] * 2 + [True] * 2 + [False, True] + [False] * 3


def test_a_module_starts_with_them(train_csv: Path) -> None:
    near, chance = (prepared_for(train_csv, embedding_start=start) for start in ("cooccurrence", "chance"))
    first, other, drawn = (one.new_module(seed).embedding.weight for one, seed in ((near, 0), (near, 1), (chance, 0)))
    assert torch.equal(first[2:], other[2:])
    assert first[0].count_nonzero() == 0
    assert torch.equal(first[1], drawn[1]), "UNK starts by chance, as it would without"
    assert not torch.equal(first[2], drawn[2])
    assert chance.start.vectors is None


def test_unlabelled_texts_are_counted_too(train_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more.txt").write_text("snow storm\n" * 3)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(start, "pretrain", lambda module, *_: seen.append(module.embedding.weight.clone()))
    prepared = prepared_for(train_csv, unlabelled=tmp_path / "more.txt")
    ((snow,), (storm,)) = (tokens.input_ids for tokens in prepared.tokenizer.encode(["snow", "storm"], max_length=1))
    assert seen[0][storm].square().mean().sqrt().item() == pytest.approx(SIZE, rel=1e-4), "not by chance"
    assert F.cosine_similarity(seen[0][storm], seen[0][snow], dim=0) < 0.9, "neighbours, not alike"
