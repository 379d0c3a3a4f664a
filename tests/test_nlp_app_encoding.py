from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_app.config import ModelConfig
from nlp_app.encoding import encode
from nlp_app.errors import TokenizerError
from nlp_app.ngrams import TEXTS_AT_ONCE
from nlp_app.tokenizer import CHARACTERS_PER_TOKEN
from tests.conftest import LABELS, TEXTS, make_tokenizer

TOKENIZER = make_tokenizer()
CONFIG = ModelConfig(
    labels=LABELS, vocab_size=TOKENIZER.vocab_size, max_length=4, ngram_slots=1 << 12, ngram_orders=(2, 3)
)


@given(st.lists(st.sampled_from([*TEXTS, "", "unknown words 123 🙂"]), min_size=1, max_size=2 * TEXTS_AT_ONCE))
def test_a_text_is_encoded_alike_alone_and_beside_others(texts: list[str]) -> None:
    for text, together in zip(texts, encode(texts, tokenizer=TOKENIZER, config=CONFIG), strict=True):
        (alone,) = encode([text], tokenizer=TOKENIZER, config=CONFIG)
        assert np.array_equal(alone.input_ids, together.input_ids)
        assert alone.truncated == together.truncated
        assert np.array_equal(alone.ngrams.slots, together.ngrams.slots)
        assert np.array_equal(alone.ngrams.counts, together.ngrams.counts)


def test_n_grams_reach_further_than_the_tokens() -> None:
    reach = CONFIG.max_length * CHARACTERS_PER_TOKEN // len("snow ")
    short, long, longer = (" ".join(["snow"] * count) for count in (4, reach, reach + 9))
    encoded = encode([short, long, longer], tokenizer=TOKENIZER, config=CONFIG)
    assert [len(one.input_ids) for one in encoded] == [4, 4, 4]
    assert [one.truncated for one in encoded] == [False, True, True]
    words = [one.ngrams.counts[one.ngrams.slots < CONFIG.ngram_slots // 2].max() for one in encoded]
    assert words == [4, reach, reach]


def test_no_slots_no_n_grams() -> None:
    config = replace(CONFIG, ngram_slots=0, ngram_orders=())
    (one,) = encode(["snow and ice"], tokenizer=TOKENIZER, config=config)
    assert len(one.ngrams.slots) == 0
    assert one.input_ids.tolist() == TOKENIZER.encode(["snow and ice"], max_length=4)[0].input_ids.tolist()


@pytest.mark.parametrize("slots", [0, 1 << 12])
def test_refuses_what_is_no_text(slots: int) -> None:
    config = replace(CONFIG, ngram_slots=slots, ngram_orders=())
    with pytest.raises(TokenizerError, match="holds a lone surrogate"):
        encode(["fine", "\ud800"], tokenizer=TOKENIZER, config=config)
    with pytest.raises(TokenizerError, match="is a NoneType, but must be a str"):
        encode([None], tokenizer=TOKENIZER, config=config)  # type: ignore[list-item]
