"""The whole model is the sum of its parts, in one module that is saved and loaded as one."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from nlp_app.checkpoint import load_checkpoint, save_checkpoint
from nlp_app.decision import UNREACHABLE, Decision
from nlp_app.encoding import encode
from nlp_app.errors import ConfigError
from nlp_app.model import NgramBranch, TextClassifier
from nlp_app.predictor import Predictor
from nlp_app.scoring import score
from tests.conftest import METRICS, ROW_LABELS, TEXTS, make_module, make_tokenizer
from tests.test_training_data import examples
from training import phases
from training.batches import Dataset
from training.calibration import Calibration
from training.combine import combine, settle
from training.linear import Fitted, branch_logits, fit_branch
from training.options import Options

TOKENIZER = make_tokenizer()


@pytest.fixture
def parts() -> tuple[TextClassifier, NgramBranch, Dataset]:
    module = make_module(TOKENIZER, ngram_slots=1 << 12, ngram_orders=(2, 3))
    data = Dataset.of(examples(list(ROW_LABELS), TEXTS), tokenizer=TOKENIZER, config=module.config)
    return module, fit_branch(data, module.config, class_weights=None), data


def test_the_logits_are_the_scaled_sum(parts: tuple[TextClassifier, NgramBranch, Dataset]) -> None:
    module, branch, data = parts
    whole = combine(module, branch, Calibration(scales=(0.3, 2.0), offset=0.25))
    expected = 0.3 * score(module, data.encoded) + 2 * branch_logits(branch, data) + 0.25
    torch.testing.assert_close(score(whole, data.encoded), expected, rtol=1e-5, atol=1e-6)
    assert not whole.training
    alone = combine(module, None, Calibration(scales=(0.3,)))
    assert alone.ngrams is None
    torch.testing.assert_close(score(alone, data.encoded), 0.3 * score(module, data.encoded))


def test_the_parts_stay_as_they_are(parts: tuple[TextClassifier, NgramBranch, Dataset]) -> None:
    module, branch, data = parts
    before = [score(module, data.encoded), branch_logits(branch, data)]
    combine(module, branch, Calibration(scales=(0.3, 2.0)))
    assert torch.equal(before[0], score(module, data.encoded))
    assert torch.equal(before[1], branch_logits(branch, data))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_text_has_the_same_logits_alone_as_in_any_batch(
    parts: tuple[TextClassifier, NgramBranch, Dataset], size: int
) -> None:
    module, branch, _ = parts
    whole = combine(module, branch, Calibration(scales=(0.3, 2.0)))
    texts = [*TEXTS, "", "🙂", "unknown " * 30]
    encoded = encode(texts, tokenizer=TOKENIZER, config=whole.config)
    alone = torch.cat([score(whole, [one]) for one in encoded])
    batches = torch.cat([score(whole, encoded[start : start + size]) for start in range(0, len(texts), size)])
    torch.testing.assert_close(alone, batches, rtol=1e-5, atol=1e-5)


def test_what_is_saved_is_what_is_loaded(parts: tuple[TextClassifier, NgramBranch, Dataset], tmp_path: Path) -> None:
    module, branch, data = parts
    selected = settle(module, branch, data, target_precision=None)
    decision = Decision(min_score=0.5)
    save_checkpoint(
        tmp_path, module=selected.module, tokenizer=TOKENIZER, trained={}, metrics=METRICS, decision=decision
    )
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == selected.module.config
    assert loaded.decision == decision
    encoded = encode(TEXTS, tokenizer=loaded.tokenizer, config=loaded.config)
    assert torch.equal(score(loaded.module, encoded), score(selected.module, data.encoded))
    predictions = Predictor(checkpoint=loaded).predict(TEXTS)
    assert [one.label for one in predictions] == ROW_LABELS
    assert [one.abstained for one in predictions] == [one.score < 0.5 for one in predictions]


def test_the_selection_is_measured_on_the_validation_texts(parts: tuple[TextClassifier, NgramBranch, Dataset]) -> None:
    module, branch, data = parts
    selected = settle(module, branch, data, target_precision=None)
    assert selected.scores["accuracy"] == 1.0
    assert selected.scores["loss"] < 0.7
    assert list(selected.alone) == ["convolution alone", "n-grams alone", "most frequent label"]
    assert selected.alone["n-grams alone"]["accuracy"] == 1.0
    assert selected.alone["most frequent label"]["accuracy"] == pytest.approx(1 / 3)
    assert selected.alone["most frequent label"]["macro_f1"] == pytest.approx((2 * 2 / (6 + 2)) / 3)
    assert selected.decision == Decision()


def test_a_module_with_a_branch_must_be_given_n_grams(parts: tuple[TextClassifier, NgramBranch, Dataset]) -> None:
    module, branch, _ = parts
    whole = combine(module, branch, Calibration(scales=(1.0, 1.0)))
    with pytest.raises(ConfigError, match="must be given them beside input_ids"):
        whole(torch.tensor([[2, 3]]))


def test_a_branch_of_other_sizes_does_not_fit(parts: tuple[TextClassifier, NgramBranch, Dataset]) -> None:
    module, branch, _ = parts
    other = TextClassifier(config=replace(module.config, ngram_slots=1 << 13))
    with pytest.raises(ConfigError, match="0 slots of n-grams are seen, but there are rows for"):
        combine(other, branch, Calibration(scales=(1.0, 1.0)))


@pytest.mark.parametrize(("min_score", "told"), [(1.0, False), (UNREACHABLE, True)])
def test_warns_where_no_score_is_enough(
    parts: tuple[TextClassifier, NgramBranch, Dataset],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    min_score: float,
    told: bool,
) -> None:
    module, branch, data = parts
    found = replace(settle(module, branch, data, target_precision=None), decision=Decision(min_score=min_score))
    monkeypatch.setattr(phases, "settle", lambda *_, **__: found)
    prepared = SimpleNamespace(train=data, validation=data)
    options = Options(target_precision=0.9)
    assert phases.settled(options, prepared, module, Fitted(branch=branch), Console()) == found  # type: ignore[arg-type]
    assert ("abstains from every text" in capsys.readouterr().out.replace("\n", " ")) == told
