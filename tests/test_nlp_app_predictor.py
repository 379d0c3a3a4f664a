import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlp_app import Predictor, encoding, predictor, scoring
from nlp_app.checkpoint import load_checkpoint, save_checkpoint
from nlp_app.decision import UNREACHABLE, Decision
from nlp_app.encoding import encode
from nlp_app.errors import ConfigError, TokenizerError
from tests.conftest import LABELS, ROOT, TEXTS, module_of

WORDS = sorted({word for text in TEXTS for word in text.split()} | {"unseen", "", "🙂"})


@pytest.fixture(scope="module")
def weather(shared_checkpoint: Path) -> Predictor:
    return Predictor.load(shared_checkpoint)


def test_gives_labels_with_probabilities_best_first(weather: Predictor) -> None:
    (prediction,) = weather.predict(["ice and snow"], top_k=3)
    assert {item.label for item in prediction.scores} == set(LABELS)
    assert sum(item.score for item in prediction.scores) == pytest.approx(1)
    assert [item.score for item in prediction.scores] == sorted(
        (item.score for item in prediction.scores), reverse=True
    )
    assert (prediction.label, prediction.score) == (prediction.scores[0].label, prediction.scores[0].score)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_top_k_sizes_scores_and_is_clamped(weather: Predictor, top_k: int, count: int) -> None:
    assert len(weather.predict(["snow"], top_k=top_k)[0].scores) == count


@pytest.mark.parametrize("top_k", [0, -1, 1.0, "1", True, None])
def test_refuses_a_top_k_that_is_none(weather: Predictor, top_k: object) -> None:
    with pytest.raises(ConfigError, match=r"top_k is .*, but must be a whole number of 1 or more"):
        weather.predict(["snow"], top_k=top_k)  # type: ignore[arg-type]


def test_refuses_what_is_no_list_of_texts(weather: Predictor) -> None:
    with pytest.raises(TokenizerError, match="texts is one str, but must be a list of them"):
        weather.predict("snow")
    with pytest.raises(TokenizerError, match="text 1 is a NoneType, but must be a str"):
        weather.predict(["snow", None])  # type: ignore[list-item]


def test_no_texts_no_predictions(weather: Predictor) -> None:
    assert weather.predict([]) == []


@pytest.mark.parametrize(("min_score", "abstained"), [(1.0, False), (UNREACHABLE, True)])
def test_a_score_of_one_is_answered_unless_none_is(checkpoint: Path, min_score: float, abstained: bool) -> None:
    loaded = load_checkpoint(checkpoint)
    with torch.no_grad():
        loaded.module.output.bias[0] += 1000
    save_checkpoint(
        checkpoint,
        module=loaded.module,
        tokenizer=loaded.tokenizer,
        trained={},
        metrics={},
        decision=Decision(min_score=min_score),
    )
    (prediction,) = Predictor.load(checkpoint).predict(["snow"])
    assert prediction.score == 1
    assert prediction.abstained == abstained


def test_blank_texts_are_scored_like_any_other(weather: Predictor) -> None:
    blank, unknown = weather.predict(["  ", "unseen"])
    assert blank == unknown


def test_a_text_cut_at_the_maximum_says_so(weather: Predictor) -> None:
    cut, whole = weather.predict(["snow " * 33, "snow " * 32])
    assert cut.truncated
    assert not whole.truncated
    assert cut.scores == whole.scores
    assert cut.to_json()["truncated"] is True
    assert "truncated" not in whole.to_json()


def test_json_has_label_score_and_scores(weather: Predictor) -> None:
    (prediction,) = weather.predict(["snow"], top_k=2)
    first, second = prediction.scores
    assert prediction.to_json() == {
        "label": first.label,
        "score": first.score,
        "scores": [{"label": first.label, "score": first.score}, {"label": second.label, "score": second.score}],
    }


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join), min_size=1, max_size=12))
def test_the_answer_to_a_text_does_not_depend_on_the_others(weather: Predictor, texts: list[str]) -> None:
    together = weather.predict(texts, top_k=3)
    for text, prediction in zip(texts, together, strict=True):
        (alone,) = weather.predict([text], top_k=3)
        assert alone.truncated == prediction.truncated
        scores = {item.label: item.score for item in prediction.scores}
        assert scores == pytest.approx({item.label: item.score for item in alone.scores}, abs=1e-5)


def test_many_batches_and_chunks_keep_the_order(weather: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 40))) for _ in range(100)]
    expected = weather.predict(texts)
    monkeypatch.setattr(encoding, "TOKENS_PER_BATCH", 48)
    monkeypatch.setattr(predictor, "TEXTS_PER_CHUNK", 7)
    for one, other in zip(weather.predict(texts), expected, strict=True):
        assert one.label == other.label
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_predicting_leaves_no_gradient_and_the_module_in_evaluation(weather: Predictor) -> None:
    module = module_of(weather)
    assert not module.training
    logits = scoring.score(module, encode(["snow"], tokenizer=weather.checkpoint.tokenizer, config=module.config))
    assert not logits.requires_grad
    assert logits.dtype == torch.float32


def test_config_and_tokenizer_need_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; import nlp_app.config, nlp_app.tokenizer, nlp_app.tables"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
