"""An explanation is exact, points into the text, and agrees with what leaving a token out does."""

from functools import cache
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.leaving_out import agreements
from nlp_app.checkpoint import Checkpoint
from nlp_app.decision import Decision
from nlp_app.encoding import encode
from nlp_app.errors import ConfigError
from nlp_app.explain import direction_of, token_shares
from nlp_app.explanation import Explanation, TokenContribution
from nlp_app.model import ConvBlock, NgramBranch, TextClassifier
from nlp_app.ngrams import place_ngrams
from nlp_app.predictor import Predictor
from nlp_app.scoring import score
from nlp_app.tokenizer import Tokenizer
from tests.conftest import LABELS, ROW_LABELS, TEXTS, make_module, make_tokenizer, module_of
from tests.test_training_data import examples
from training.batches import Dataset
from training.calibration import Calibration
from training.combine import combine
from training.linear import fit_branch

TOKENIZER = make_tokenizer()
WORDS = sorted({word for text in TEXTS for word in text.split()} | {"unseen", "Snow", "½", "", "e\u0301", "🙂", ","})
ANY_TEXT = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)
SLOTS = 1 << 16


def predictor_of(module: TextClassifier, tokenizer: Tokenizer = TOKENIZER) -> Predictor:
    return Predictor(
        checkpoint=Checkpoint(
            module=module.eval(),
            config=module.config,
            tokenizer=tokenizer,
            decision=Decision(),
            version="",
            trained={},
            metrics={},
        )
    )


@cache
def trained(orders: tuple[int, ...] = (2, 3, 4)) -> Predictor:
    """Both parts fitted to TEXTS."""
    module = make_module(TOKENIZER, ngram_slots=SLOTS, ngram_orders=orders)
    data = Dataset.of(examples(list(ROW_LABELS), TEXTS), tokenizer=TOKENIZER, config=module.config)
    input_ids = torch.from_numpy(TOKENIZER.encode_batch(TEXTS, max_length=32))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.02)
    module.train()
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module.logits(input_ids), data.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    branch = fit_branch(data, module.config, class_weights=None)
    return predictor_of(combine(module.eval(), branch, Calibration(scales=(0.5, 2.0))))


def explained(predictor: Predictor, text: str) -> Explanation:
    (prediction,) = predictor.predict([text], explain=True)
    assert prediction.explanation is not None
    return prediction.explanation


def apart(predictor: Predictor, text: str, label: str) -> float:
    """What is explained."""
    module = module_of(predictor)
    (logits,) = score(module, encode([text], tokenizer=TOKENIZER, config=module.config))
    return float(logits[LABELS.index(label)] - (0 if module.config.multi_label else logits.mean()))


def constants(module: TextClassifier, text: str, direction: Tensor) -> float:
    """What the biases of the convolution add: each normalised channel's shift and the last layer's, by its gradient."""
    (one,) = encode([text], tokenizer=TOKENIZER, config=module.config)
    input_ids = torch.from_numpy(one.input_ids[None]).long()
    norms = [cast(torch.nn.BatchNorm1d, cast(ConvBlock, block).norm[0]) for block in module.blocks]
    explained = module.output(module.features(input_ids))[0] @ direction
    gradients = torch.autograd.grad(explained, [norm.bias for norm in norms])
    total = (module.output.bias @ direction).item()
    for norm, gradient in zip(norms, gradients, strict=True):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        shift = norm.bias - norm.weight * norm.running_mean / (norm.running_var + norm.eps).sqrt()
        total += (gradient @ shift).item()
    return total


@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("text", [*TEXTS[:2], "snow", "", "ice unseen ice snow ice"])
def test_tokens_and_constants_sum_to_the_logits_of_the_convolution(blocks: int, text: str) -> None:
    module = make_module(TOKENIZER, num_blocks=blocks)
    encoded = encode([text], tokenizer=TOKENIZER, config=module.config)
    direction = torch.tensor([0.7, -1.0, 0.3])
    expected = float(score(module, encoded)[0] @ direction)
    shares = token_shares(module, encoded[0].input_ids, direction)
    assert shares.shape == encoded[0].input_ids.shape
    assert abs(shares).max() > 1e-3
    assert shares.sum() + constants(module, text, direction) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=30)
@given(ANY_TEXT)
def test_baseline_and_contributions_sum_to_what_sets_the_label_apart(text: str) -> None:
    found = explained(trained(), text)
    total = found.baseline + sum(token.contribution for token in found.tokens)
    assert total == pytest.approx(apart(trained(), text, found.label), abs=1e-4)
    assert all(token.token == text[token.start : token.end] for token in found.tokens)
    assert "".join(token.token for token in found.tokens) == "".join(text.split())


@settings(max_examples=30)
@given(ANY_TEXT.filter(lambda text: len(text.split()) > 1))
def test_the_baseline_is_made_of_biases_alone(text: str) -> None:
    """So nothing that a token or an n-gram adds is lost in it."""
    module, found = module_of(trained()), explained(trained(), text)
    direction = direction_of(LABELS.index(found.label), module.config)
    assert module.ngrams is not None
    expected = constants(module, text, direction) + (module.ngrams.bias @ direction).item()
    assert found.baseline == pytest.approx(expected, abs=1e-4)


def test_with_several_labels_the_logit_itself_is_explained() -> None:
    predictor = predictor_of(make_module(TOKENIZER, multi_label=True))
    found = explained(predictor, TEXTS[0])
    total = found.baseline + sum(token.contribution for token in found.tokens)
    assert total == pytest.approx(apart(predictor, TEXTS[0], found.label), abs=1e-5)
    assert direction_of(1, predictor.checkpoint.config).tolist() == [0, 1, 0]


def knowing(slot: int) -> Predictor:
    """A branch that knows a single n-gram, which speaks for the first label, beside a convolution that says nothing."""
    branch = NgramBranch(slots=SLOTS, rows=2, classes=3)
    branch.seen[slot // 8] = 1 << slot % 8
    branch.number_rows()
    with torch.no_grad():
        branch.idf[1] = 1
        branch.weight[1, 0] = 3
    module = make_module(TOKENIZER, ngram_slots=SLOTS, ngram_orders=(2, 3))
    return predictor_of(combine(module, branch, Calibration(scales=(0, 1))))


@pytest.mark.parametrize(
    ("kind", "group", "place", "shares"),
    [
        (0, 0, 0, [1 / 2, 0, 0, 1 / 2]),  # "snow" stands twice
        (0, 0, 2, [0, 0, 1, 0]),
        (0, 1, 0, [1, 0, 0, 0]),  # the start and "snow": the start is no token
        (0, 1, 1, [1 / 2, 1 / 2, 0, 0]),  # "snow" and ","
        (0, 2, 2, [0, 1 / 2, 0, 1 / 2]),  # "," and "snow" with one between
        (1, 0, 0, [1 / 2, 0, 0, 1 / 2]),  # " s": the space is no token's
        (1, 0, 4, [1 / 2, 1 / 2, 0, 0]),  # "w,"
        (1, 0, 5, [0, 1, 0, 0]),  # ", "
        (1, 1, 3, [2 / 3, 1 / 3, 0, 0]),  # "ow,"
    ],
)
def test_an_n_gram_is_shared_by_its_occurrences_and_their_tokens(
    kind: int, group: int, place: int, shares: list[float]
) -> None:
    text = "Snow, ice  snow"
    placed = place_ngrams(text, num_slots=SLOTS, char_orders=(2, 3))
    found = explained(knowing(int(placed[kind][group].slots[place])), text)
    assert found.label == LABELS[0]
    assert found.baseline == pytest.approx(0, abs=1e-6)
    # Its weight is the only one, so the norm makes it 1: 3 for the label, less the mean of 3, 0 and 0.
    assert [token.contribution / 2 for token in found.tokens] == pytest.approx(shares, abs=1e-6)


def test_the_largest_contribution_is_of_the_token_that_is_missed_most() -> None:
    """Among the two that are missed most in four texts of five; docs/decisions.md has the sample set's figures."""
    texts = [*TEXTS, "today the hill is cold", "burn the tea", "wind and snow", "a room as hot as the sun"]
    found = agreements(trained(), texts)
    assert len(found) == len(texts)
    assert sum(two for _, two, _ in found) >= 0.8 * len(texts)


def test_all_that_is_read_is_explained() -> None:
    """The convolution reads max_length tokens; n-grams reach further."""
    text = "snow " * 200
    alone = predictor_of(make_module(TOKENIZER))
    assert len(explained(alone, text).tokens) == 32
    assert len(explained(trained(), text).tokens) == 200
    assert len(explained(trained(()), text).tokens) == 200
    assert all(token.contribution for token in explained(trained(), text).tokens)


def test_subwords_are_explained_as_the_text_spells_them() -> None:
    tokenizer = make_tokenizer(kind="subwords")
    found = explained(predictor_of(make_module(tokenizer), tokenizer), " Snow  falling")
    assert found.tokens[0].token == "Snow"
    assert "".join(token.token for token in found.tokens) == "Snowfalling"


def test_an_explanation_changes_nothing_and_is_made_only_where_it_is_asked_for() -> None:
    predictor = trained()
    plain, asked = predictor.predict(TEXTS, 3), predictor.predict(TEXTS, 3, explain=True)
    for one, other in zip(plain, asked, strict=True):
        assert one.explanation is None
        assert "explanation" not in one.to_json()
        assert other.to_json() == one.to_json() | {"explanation": other.to_json()["explanation"]}
        assert other.explanation is not None
        assert other.explanation.label == other.label
    for text, prediction in zip(TEXTS, asked, strict=True):
        alone = explained(predictor, text)
        assert prediction.explanation is not None
        assert prediction.explanation.tokens == alone.tokens, "alone as beside others"
    assert all(parameter.grad is None for parameter in module_of(predictor).parameters())


def test_json_has_label_baseline_and_tokens() -> None:
    found = Explanation("hot", -0.5, (TokenContribution("Sun", 4, 7, 1.25),))
    assert found.to_json() == {
        "label": "hot",
        "baseline": -0.5,
        "tokens": [{"token": "Sun", "start": 4, "end": 7, "contribution": 1.25}],
    }


@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_refuses_an_explain_that_is_no_bool(value: object) -> None:
    with pytest.raises(ConfigError, match=r"explain is .*, but must be True or False"):
        trained().predict(["snow"], explain=value)  # type: ignore[arg-type]
