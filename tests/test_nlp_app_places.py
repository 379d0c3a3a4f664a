"""What stands where: every token and every character of an n-gram is found again in the text as it was given."""

import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nlp_app.ngrams import clean
from nlp_app.places import NOWHERE, clean_places, cut, group_starts
from tests.conftest import TEXTS, make_tokenizer

ODD = "aB é\u0301\u0327½¨ﬁİΣς㌀\u1100\u1161\u11a8각ก้\u0cc6\u0cc2\u0cd5\u1d160\x1c\x85\u00a0\u200b\u180e🙂👍🏽中 \n"
ODD_TEXT = st.text(st.sampled_from(ODD), max_size=12)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | ODD_TEXT
TOKENIZERS = {kind: make_tokenizer(TEXTS, kind) for kind in ("words", "subwords")}


def normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


@example("a\u0327\u0301")  # the accent joins the letter across the cedilla, which does not
@given(ANY_TEXT)
def test_groups_are_normalised_by_themselves(text: str) -> None:
    starts = group_starts(text)
    assert (starts[0], starts[-1]) == (0, len(text))
    assert "".join(normal(text[start:end]) for start, end in pairwise(starts)) == normal(text)


@given(ANY_TEXT)
def test_every_clean_character_comes_from_its_place(text: str) -> None:
    cleaned, starts = clean(text), group_starts(text)
    places = clean_places(text).tolist()
    assert len(places) == len(cleaned)
    assert places == sorted(places)
    for character, place in zip(cleaned, places, strict=True):
        group = text[place : starts[starts.index(place) + 1]]
        assert character in f"{normal(group)} "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Snow, is COLD", ["Snow", ",", "is", "COLD"]),
        ("e\u0301te\u0301 x", ["e\u0301te\u0301", "x"]),
        ("ﬁne ½ ㌀ ok", ["ﬁne", "½", "㌀", "ok"]),
        ("\tsnow\n  fall ", ["snow", "fall"]),
        ("ก้ x", ["ก้", "x"]),  # two tokens, letter and tone, that are one character to a reader
        ("中文🙂", ["中", "文", "🙂"]),
        ("  ", []),
    ],
)
def test_the_pieces_of_words_are_the_texts_own_characters(text: str, expected: list[str]) -> None:
    pieces = cut(text, TOKENIZERS["words"].offsets(text))
    assert [text[start:end] for start, end in pieces.spans] == expected


def test_a_subwords_mark_is_not_in_its_piece_and_a_mark_alone_is_in_the_next() -> None:
    tokenizer, text = TOKENIZERS["subwords"], "Snow 🙂 is"
    ids = tokenizer.encode([text], max_length=9)[0].input_ids.tolist()
    assert [tokenizer.token(number) for number in ids] == ["▁snow", "▁", "[UNK]", "▁is"]
    pieces = cut(text, tokenizer.offsets(text))
    assert [text[start:end] for start, end in pieces.spans] == ["Snow", "🙂", "is"]
    assert pieces.of_tokens.tolist() == [0, 1, 1, 2]


@given(ANY_TEXT, st.sampled_from(["words", "subwords"]))
def test_pieces_do_not_overlap_and_every_token_has_one(text: str, kind: str) -> None:
    (encoded,) = TOKENIZERS[kind].encode([text], max_length=1000)
    pieces = cut(text, TOKENIZERS[kind].offsets(text))
    assert len(pieces.of_tokens) == len(encoded.input_ids)
    edges = [0, *(edge for span in pieces.spans for edge in span), len(text)]
    assert edges == sorted(edges)
    assert all(text[start:end].lstrip() == text[start:end] != "" for start, end in pieces.spans)
    if pieces.spans:
        assert sorted(set(pieces.of_tokens.tolist())) == list(range(len(pieces.spans)))
    else:
        assert set(pieces.of_tokens.tolist()) <= {NOWHERE}


@example("a\u00a8\u05b0\u0301", "words")  # a token begins among the accents of a spacing one
@example(" \u0308", "words")  # an accent on a space: they stay two
@given(ANY_TEXT, st.sampled_from(["words", "subwords"]))
def test_every_clean_character_but_a_space_lies_in_a_piece(text: str, kind: str) -> None:
    pieces = cut(text, TOKENIZERS[kind].offsets(text))
    of_characters = pieces.of_characters(clean_places(text))
    inside = [number for number, character in zip(of_characters, clean(text), strict=True) if character != " "]
    assert NOWHERE not in inside
    assert set(inside) == set(range(len(pieces.spans)))


def test_a_place_between_pieces_is_nowhere() -> None:
    pieces = cut(" ab c,", [(1, 3), (4, 5), (5, 6)])
    assert pieces.of_characters(np.arange(7)).tolist() == [NOWHERE, 0, 0, NOWHERE, 1, 2, NOWHERE]
    assert pieces.sums(np.array([2, 0, 2, NOWHERE]), np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [2.0, 0.0, 4.0]
