"""What is compiled gives what the module gives."""

import numpy as np
import pytest
import torch

from nlp_app import compiled
from nlp_app.compiled import CompiledClassifier, fastest
from nlp_app.encoding import Encoded, encode
from nlp_app.folded import FoldedClassifier
from nlp_app.model import TextClassifier
from nlp_app.scoring import ask, familiarity, score
from tests.conftest import TEXTS, make_module, make_tokenizer
from tests.test_nlp_app_folded import shaken

TOKENIZER = make_tokenizer()
SLOTS = 1 << 10
EVERY = [*TEXTS, "snow", "", "the unknown SNOW, 1999", "ice and snow and hot ice " * 30, "木水 😀 Été"]
with_compiler = pytest.mark.skipif(compiled._folded is None, reason="no compiler was found at installation")


def with_ngrams(**values: object) -> TextClassifier:
    """A module whose branch knows half of the slots, with weights of either sign."""
    draw = np.random.default_rng(0)
    seen = draw.random(SLOTS) < 0.5
    rows = int(seen.sum()) + 1
    branch: dict[str, object] = {"ngram_slots": SLOTS, "ngram_rows": rows, "ngram_orders": (2, 3, 4)}
    module = make_module(TOKENIZER, **values)  # type: ignore[arg-type]
    whole = TextClassifier(config=module.config.__class__(**(vars(module.config) | branch)))
    state = whole.state_dict() | module.state_dict()
    weight = torch.from_numpy(draw.normal(size=(rows, module.config.num_classes)).astype(np.float32))
    weight[0] = 0
    state |= {
        "ngrams.seen": torch.from_numpy(np.packbits(seen, bitorder="little")),
        "ngrams.idf": torch.from_numpy(draw.random(rows).astype(np.float32)),
        "ngrams.weight": weight,
        "ngrams.bias": torch.ones(module.config.num_classes),
    }
    whole.load_state_dict(state)
    return shaken(whole).eval()


def encoded_for(module: TextClassifier) -> list[Encoded]:
    return encode(EVERY, tokenizer=TOKENIZER, config=module.config)


@with_compiler
@pytest.mark.parametrize("kernel_sizes", [(1,), (2, 3), (5, 1, 4), (40,)])
@pytest.mark.parametrize("num_filters", [1, 4, 37])
@pytest.mark.parametrize("ngrams", [False, True])
def test_it_gives_the_logits_and_the_familiarity_of_the_module(
    kernel_sizes: tuple[int, ...], num_filters: int, ngrams: bool
) -> None:
    values: dict[str, object] = {"kernel_sizes": kernel_sizes, "num_filters": num_filters}
    module = with_ngrams(**values) if ngrams else shaken(make_module(TOKENIZER, **values))  # type: ignore[arg-type]
    encoded, found = encoded_for(module), fastest(module)
    assert isinstance(found, CompiledClassifier)
    logits, familiar = ask(found, encoded)
    expected = score(module, encoded)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(familiar, familiarity(module, encoded), rtol=0, atol=1e-7)
    assert np.array_equal(score(found, encoded), logits)
    if ngrams:
        assert 0.2 < familiar.min() < familiar.max() < 0.8, "or nothing of the above was tried"


@with_compiler
def test_the_answer_to_a_text_is_the_same_bits_beside_others() -> None:
    module = with_ngrams()
    encoded, found = encoded_for(module), fastest(module)
    together = ask(found, encoded)
    for place, one in enumerate(encoded):
        logits, familiar = ask(found, [one])
        assert np.array_equal(logits[0], together[0][place])
        assert familiar[0] == together[1][place]


@with_compiler
def test_it_reads_beyond_no_table() -> None:
    module = with_ngrams()
    found, (text, *_) = fastest(module), encoded_for(module)
    for wrong in (-1, module.config.vocab_size):
        with pytest.raises(ValueError, match="an id is none of the vocabulary"):
            ask(found, [text._replace(input_ids=np.array([2, wrong], dtype=np.int32))])
    for wrong in (-1, SLOTS):
        ngrams = text.ngrams._replace(slots=np.full_like(text.ngrams.slots, wrong))
        with pytest.raises(ValueError, match="a slot is beyond the last one"):
            ask(found, [text._replace(ngrams=ngrams)])


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_several_blocks_and_what_was_installed_without_a_compiler_are_folded_alone(
    num_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if num_blocks == 1:
        monkeypatch.setattr(compiled, "_folded", None)
    module = make_module(TOKENIZER, num_blocks=num_blocks)
    found, encoded = fastest(module), encoded_for(module)
    assert isinstance(found, FoldedClassifier)
    np.testing.assert_allclose(ask(found, encoded)[0], score(module, encoded), rtol=1e-5, atol=1e-5)
