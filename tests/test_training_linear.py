import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.feature_extraction.text import TfidfTransformer

from nlp_app.config import ModelConfig
from nlp_app.encoding import encode
from nlp_app.model import SHAPES_LENGTH, NgramBranch
from nlp_app.ngram_batch import join
from nlp_app.ngrams import CHARACTERS, SHAPES
from tests.conftest import LABELS, ROW_LABELS, TEXTS, make_tokenizer
from tests.test_training_data import examples
from training import linear
from training.batches import Dataset
from training.data import Labels
from training.interrupt import Interrupted, StopRequest
from training.linear import branch_logits, fit_branch, plan, score_apart

TOKENIZER = make_tokenizer()


def config(labels: tuple[str, ...] = LABELS, **values: object) -> ModelConfig:
    settings: dict[str, object] = {"ngram_slots": 1 << 14, "ngram_orders": (2, 3), "max_length": 16}
    return ModelConfig(labels=labels, vocab_size=TOKENIZER.vocab_size, **(settings | values))  # type: ignore[arg-type]


def data(labels: list[Labels], of: ModelConfig, texts: list[str] = TEXTS) -> Dataset:
    return Dataset.of(examples(labels, texts), tokenizer=TOKENIZER, config=of)


def fit(rows: Dataset, of: ModelConfig, weights: torch.Tensor | None = None) -> NgramBranch:
    return fit_branch(rows, of, class_weights=weights)


@pytest.mark.parametrize("few", [16, 2], ids=["with ratios", "without"])
def test_finds_the_classes_of_its_texts(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "FEW_CLASSES", few)
    rows = data(list(ROW_LABELS), config())
    logits = branch_logits(fit(rows, config()), rows)
    assert logits.argmax(dim=1).tolist() == rows.targets.tolist()
    assert logits.shape == (6, 3)


def test_the_same_texts_give_the_same_weights() -> None:
    rows = data(list(ROW_LABELS), config())
    one, other = fit(rows, config()), fit(rows, config())
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_of_two_classes_each_has_half() -> None:
    of = config(("cold", "hot"))
    rows = data(["cold", "cold", "cold", "hot", "hot", "hot"], of)
    logits = branch_logits(fit(rows, of), rows)
    assert torch.allclose(logits[:, 0], -logits[:, 1], atol=1e-6)
    assert logits.argmax(dim=1).tolist() == rows.targets.tolist()


@pytest.mark.parametrize("few", [16, 2])
def test_a_class_with_no_text_is_never_said(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "FEW_CLASSES", few)
    of = config(("cold", "hot", "mild", "warm"))
    rows = data(list(ROW_LABELS), of)
    logits = branch_logits(fit(rows, of), rows)
    assert logits[:, 2].tolist() == [-1.0] * 6
    assert logits.argmax(dim=1).tolist() == rows.targets.tolist()


def test_several_labels_each_have_a_machine() -> None:
    of = config(multi_label=True)
    labels: list[Labels] = [("cold",), ("cold", "warm"), ("warm",), (), ("hot",), ("hot", "cold")]
    rows = data(labels, of)
    logits = branch_logits(fit(rows, of), rows)
    assert ((logits > 0) == rows.targets.bool()).all()


def test_a_weight_moves_the_decision_to_its_class() -> None:
    of = config(("cold", "hot"))
    texts = ["ice snow", "ice snow", "ice snow", "ice snow"]
    rows = data(["cold", "cold", "cold", "hot"], of, texts)
    plain = branch_logits(fit(rows, of), rows)
    weighted = branch_logits(fit(rows, of, torch.tensor([1.0, 9.0])), rows)
    assert (plain.argmax(dim=1) == 0).all()
    assert (weighted.argmax(dim=1) == 1).all()


def test_unseen_n_grams_say_nothing() -> None:
    rows = data(list(ROW_LABELS), config())
    branch = fit(rows, config())
    (unseen,) = encode(["qqq xxx"], tokenizer=TOKENIZER, config=config())
    known = branch.rows[torch.from_numpy(unseen.ngrams.slots)]
    assert (known == 0).any()
    assert branch.weight[0].abs().max() == 0
    assert branch.idf[0] == 0


def test_weights_are_those_of_scikit_learns_tf_idf() -> None:
    """Each part - words, characters, shapes - is its sublinear TF-IDF with a Euclidean norm of its own."""
    rows = data(list(ROW_LABELS), config(), [f"{text} {text[:9]}" for text in TEXTS])
    branch = fit(rows, config())
    ngrams = join([text.ngrams for text in rows.encoded])
    places, values = branch.weigh(ngrams)
    starts = np.append(ngrams.offsets.numpy(), len(places))
    quarters = ngrams.slots.numpy() >> 12
    for part, norm in (((0, 1), 1), ((CHARACTERS,), 1), ((SHAPES,), SHAPES_LENGTH)):
        inside = np.isin(quarters, part)
        ours = np.where(inside, values.numpy(), 0)
        counts = np.where(inside & (places.numpy() > 0), ngrams.counts.numpy(), 0)
        shape = (len(rows), len(branch.idf))
        found = scipy.sparse.csr_matrix((ours, places.numpy().copy(), starts), shape=shape).toarray()
        seen = scipy.sparse.csr_matrix((counts, places.numpy().copy(), starts), shape=shape)
        seen.eliminate_zeros()
        expected = TfidfTransformer(sublinear_tf=True).fit_transform(seen).toarray()
        assert expected.any()
        np.testing.assert_allclose(found, norm * expected, atol=1e-5)


def test_rows_stay_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = data(list(ROW_LABELS), config())
    whole = len(fit(rows, config()).idf)
    monkeypatch.setattr(linear, "WEIGHT_BYTES", 4 * 3 * 20)
    branch = fit(rows, config())
    assert len(branch.idf) == 20 < whole
    assert branch.rows.max() == 19
    frequent = branch.idf[1:].max()
    assert frequent < np.log(7 / 2) + 1 + 1e-6, "the most frequent are kept: none of a single text"


def test_what_is_read_follows_from_the_amount_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(TEXTS, "auto") == (1 << 21, (2, 3, 4, 5))
    assert plan(TEXTS, "words") == (1 << 21, ())
    assert plan(TEXTS, "none") == (0, ())
    monkeypatch.setattr(linear, "CHARACTERS_TO_COUNT", 10)
    assert plan(TEXTS, "auto") == (1 << 23, ())
    assert plan(TEXTS, "all") == (1 << 23, (2, 3, 4, 5))


@pytest.mark.parametrize("labels", [["warm"] * 6, ["hot", "hot", "cold", "cold", "hot", "cold"]])
def test_of_many_labels_one_or_two_may_have_texts(labels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "FEW_CLASSES", 2)
    rows = data(list(labels), config())
    logits = branch_logits(fit(rows, config()), rows)
    if len(set(labels)) == 2:
        assert torch.equal(logits.argmax(dim=1), rows.targets), "each by its own evidence"
    else:
        assert logits.isfinite().all()


def test_each_fold_is_scored_by_a_branch_of_the_others() -> None:
    of = config(multi_label=True)
    rows = data([("cold",), ("hot",), ("warm",), ("cold",), ("hot", "warm"), ()], of)
    found = score_apart(rows, of, folds=3, seed=1, class_weights=None)
    assert torch.equal(found.targets, rows.targets)
    fold = torch.from_numpy(np.random.default_rng(1).permutation(6) % 3)
    assert fold.bincount().tolist() == [2, 2, 2]
    for number in range(3):
        inside = fold == number
        branch = fit(rows.where(~inside), of)
        torch.testing.assert_close(found.logits[inside], branch_logits(branch, rows.where(inside)))
    assert not torch.equal(found.logits, branch_logits(fit(rows, of), rows)), "none has seen the text"


def test_folds_end_where_the_user_asks_to_stop() -> None:
    stop = StopRequest()
    stop.made = True
    with pytest.raises(Interrupted):
        score_apart(data(list(ROW_LABELS), config()), config(), folds=2, seed=0, class_weights=None, check=stop.check)


def test_labels_that_a_file_takes_in_turn_are_in_every_fold() -> None:
    of = config(multi_label=True)
    labels: list[Labels] = [("cold",), ("hot",), ("warm",)] * 10
    rows = data(labels, of, [f"{label[0]} {number}" for number, label in enumerate(labels)])
    found = score_apart(rows, of, folds=3, seed=0, class_weights=None)
    assert (found.logits.argmax(dim=1) == rows.targets.argmax(dim=1)).all()
