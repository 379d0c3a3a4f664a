import json
import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nlp_app.errors import ConfigError, TokenizerError
from nlp_app.tokenizer import CHARACTERS_PER_TOKEN, KINDS, PAD_ID, UNK_ID, Tokenizer, pad, padded_length
from tests.conftest import TEXTS, make_tokenizer

TOKENIZER = make_tokenizer()


def ids(text: str, tokenizer: Tokenizer = TOKENIZER) -> list[int]:
    found: list[int] = tokenizer.encode([text], max_length=64)[0].input_ids.tolist()
    return found


def tokens(text: str, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.token(token_id) for token_id in ids(text, tokenizer)]


@pytest.mark.parametrize("kind", ["words", "subwords"])
def test_the_same_texts_give_the_same_tokenizer(kind: str) -> None:
    assert make_tokenizer(kind=kind).to_bytes() == make_tokenizer(kind=kind).to_bytes()


@pytest.mark.parametrize("kind", ["words", "subwords"])
def test_survives_bytes(kind: str) -> None:
    tokenizer = make_tokenizer(kind=kind)
    again = Tokenizer.from_bytes(tokenizer.to_bytes())
    assert again.vocab_size == tokenizer.vocab_size
    assert ids(TEXTS[0], again) == ids(TEXTS[0], tokenizer)


def test_normalises_width_case_and_composition() -> None:
    tokenizer = make_tokenizer(["café abc"])
    composed = ids("café abc", tokenizer)
    assert UNK_ID not in composed
    assert ids(unicodedata.normalize("NFD", "CAFÉ ＡＢＣ"), tokenizer) == composed


def test_splits_scripts_without_spaces_and_emoji() -> None:
    tokenizer = make_tokenizer(["今天天气很好 👍🏽 thai: สวัสดี नमस्ते"])
    assert tokens("很好今天👍", tokenizer) == ["很", "好", "今", "天", "👍"]
    assert "नमस्ते" in tokens("नमस्ते", tokenizer)


def test_subwords_cover_words_never_seen() -> None:
    tokenizer = make_tokenizer(["low lower lowest new newer newest"] * 3, kind="subwords")
    assert UNK_ID not in ids("newlow", tokenizer)
    assert len(ids("newlow", tokenizer)) < len("newlow")


@example("".join(map(chr, range(128))))
@example("[PAD] [UNK] A_1\x1c\x0b")
@given(st.text(st.characters(codec="ascii") | st.sampled_from("snow_1 é")))
def test_a_text_has_the_ids_that_the_library_gives(text: str) -> None:
    for tokenizer in (TOKENIZER, make_tokenizer(kind="subwords")):
        assert tokenizer.encode([text], max_length=500)[0].input_ids.tolist() == (
            tokenizer._backend.encode(text).ids or [UNK_ID]
        )


def test_the_library_is_asked_for_other_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def encode_batch_fast(self, texts: list[str]) -> list[SimpleNamespace]:
            assert texts == ["néve"]
            return [SimpleNamespace(ids=[7])]

    expected = ids("snow")
    monkeypatch.setattr(TOKENIZER, "_backend", Library())
    assert [one.input_ids.tolist() for one in TOKENIZER.encode(["snow", "néve"], max_length=9)] == [expected, [7]]


@pytest.mark.parametrize("change", [{"special": False}, {"content": "snow"}])
def test_a_tokenizer_with_tokens_of_its_own_is_asked_for_every_text(change: dict[str, object]) -> None:
    other = json.loads(TOKENIZER.to_bytes())
    other["added_tokens"].append({**other["added_tokens"][1], "id": 1000, "content": "ice,snow", **change})
    loaded = Tokenizer.from_bytes(json.dumps(other).encode())
    assert ids("ice,snow", loaded) == loaded._backend.encode("ice,snow").ids


def test_a_tokenizer_of_another_make_is_asked_for_every_text() -> None:
    other = json.loads(TOKENIZER.to_bytes())
    other["pre_tokenizer"]["pattern"]["Regex"] = r"\S+"
    assert len(ids("snow,ice", TOKENIZER)) == 3
    assert ids("snow,ice", Tokenizer.from_bytes(json.dumps(other).encode())) == [UNK_ID]


def test_min_frequency_leaves_rare_words_out() -> None:
    tokenizer = Tokenizer.train(["often often rare"], kind="words", vocab_size=10, min_frequency=2)
    assert ids("often rare", tokenizer) == [2, UNK_ID]


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u3000"])
def test_a_blank_text_is_one_unknown_token(text: str) -> None:
    assert ids(text) == [UNK_ID]


def test_cuts_at_the_maximum_and_says_so() -> None:
    long, short = TOKENIZER.encode(["snow ice snow", "snow ice"], max_length=2)
    assert (long.input_ids.tolist(), long.truncated) == (short.input_ids.tolist(), True)
    assert not short.truncated


def test_reads_no_more_characters_than_the_maximum_can_need() -> None:
    far = "x" * (2 * CHARACTERS_PER_TOKEN) + " snow"
    (encoded,) = TOKENIZER.encode([far], max_length=2)
    assert (encoded.input_ids.tolist(), encoded.truncated) == ([UNK_ID], True)


def test_refuses_what_is_no_text() -> None:
    with pytest.raises(TokenizerError, match=r"text 1 is a int, but must be a str"):
        TOKENIZER.encode(["a", 3], max_length=8)  # type: ignore[list-item]
    with pytest.raises(TokenizerError, match=r"texts is one str, but must be a list of them"):
        TOKENIZER.encode("a text", max_length=8)
    with pytest.raises(TokenizerError, match=r"text 0 holds a lone surrogate, U\+D83D, at character 3"):
        TOKENIZER.encode(["ab\ud83d"], max_length=8)


def test_refuses_files_that_are_no_tokenizer() -> None:
    with pytest.raises(TokenizerError, match="not a tokenizer file"):
        Tokenizer.from_bytes(b"{}")
    renamed = TOKENIZER.to_bytes().replace(b"[PAD]", b"[pad]")
    with pytest.raises(TokenizerError, match=r"first two tokens are \['\[pad\]', '\[UNK\]'\]"):
        Tokenizer.from_bytes(renamed)


def test_refuses_an_unknown_kind() -> None:
    with pytest.raises(ConfigError, match="tokenizer is 'bytes', but must be one of words, subwords"):
        make_tokenizer(kind="bytes")


def test_padding() -> None:
    batch = pad([np.array([5, 6, 7], dtype=np.int32), np.array([8], dtype=np.int32)])
    assert batch.dtype == np.int64
    assert batch.tolist() == [[5, 6, 7, PAD_ID], [8, *[PAD_ID] * 3]]


def test_padded_lengths_are_few_and_close() -> None:
    lengths = [padded_length(length) for length in range(1, 513)]
    assert len(set(lengths)) == 40
    assert all(padded >= length for length, padded in enumerate(lengths, start=1))
    assert all(padded <= max(length + 3, length * 1.125) for length, padded in enumerate(lengths, start=1))


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_a_text_is_encoded_the_same_alone_and_in_a_batch(texts: list[str]) -> None:
    together = TOKENIZER.encode(texts, max_length=16)
    for text, encoded in zip(texts, together, strict=True):
        assert encoded.input_ids.tolist() == TOKENIZER.encode([text], max_length=16)[0].input_ids.tolist()
        assert 1 <= len(encoded.input_ids) <= 16
        assert PAD_ID not in encoded.input_ids


def test_encode_batch_is_encode_then_pad() -> None:
    batch = TOKENIZER.encode_batch(TEXTS, max_length=5)
    assert batch.shape == (len(TEXTS), 8)
    assert (batch != PAD_ID).sum(axis=1).tolist() == [5] * len(TEXTS)


def test_a_10_mb_text_costs_no_more_than_a_page() -> None:
    (encoded,) = TOKENIZER.encode(["snow " * 2_000_000], max_length=512)
    assert (len(encoded.input_ids), encoded.truncated) == (512, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_names_a_special_token_is_a_text(kind: str) -> None:
    trained = make_tokenizer([*TEXTS, "[PAD] and [UNK]"], kind)
    for tokenizer in (trained, Tokenizer.from_bytes(trained.to_bytes())):
        for text in ("[PAD]", "[UNK]", "snow [PAD] ice"):
            (encoded,) = tokenizer.encode([text], max_length=16)
            assert PAD_ID not in encoded.input_ids.tolist()
            assert UNK_ID not in encoded.input_ids.tolist()  # it was trained on their letters
