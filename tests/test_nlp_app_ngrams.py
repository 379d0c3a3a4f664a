"""N-grams are what scikit-learn counts, whatever texts are counted beside them."""

import hashlib
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from nlp_app.characters import look_up
from nlp_app.ngram_batch import join
from nlp_app.ngrams import (
    CHARACTERS,
    SHAPES,
    TEXTS_AT_ONCE,
    Ngrams,
    _ngrams,
    clean,
    count_by_arrays,
    count_compiled,
    count_ngrams,
    place_ngrams,
    split_words,
)
from nlp_app.tokenizer import Tokenizer

SLOTS = 1 << 21
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ORDERS = (2, 3, 4, 5)


def count(texts: list[str], orders: tuple[int, ...] = ORDERS, slots: int = SLOTS) -> list[Ngrams]:
    return count_ngrams(texts, num_slots=slots, char_orders=orders)


def part(found: Ngrams, first: int, after: int) -> list[float]:
    """The counts in the quarters from first to after."""
    quarters = found.slots // (SLOTS // 4)
    return sorted(found.counts[(first <= quarters) & (quarters < after)].tolist())


@given(st.lists(TEXT, min_size=1, max_size=6), st.sampled_from([10, 21, 24]))
def test_a_text_has_the_same_n_grams_alone_as_beside_others(texts: list[str], bits: int) -> None:
    slots = 1 << bits
    for together, text in zip(count_by_arrays(texts, bits, ORDERS), texts, strict=True):
        (alone,) = count([text], slots=slots)
        assert together.slots.tolist() == alone.slots.tolist()
        assert together.counts.tolist() == alone.counts.tolist()
        assert (np.diff(alone.slots) > 0).all()
        assert alone.slots[0] >= 0
        assert alone.slots[-1] < slots


without_compiler = pytest.mark.skipif(_ngrams is None, reason="no compiler was found when the project was installed")
LETTERS = st.text(st.sampled_from("abÄB_1٣ ,.!?木水ไ한😀\u0301\u00a0ﬁ\U00030000"), max_size=80)


@without_compiler
@given(TEXT | LETTERS, st.integers(3, 24), st.sampled_from([(), (2,), (2, 3, 4, 5), (3, 4), (6, 7, 8)]))
@example("", 21, ORDERS)
@example("0123456789 Ab" * 700, 21, ORDERS)
@example("A1" * 40_000, 24, (3,))
def test_c_counts_what_the_array_operations_count(text: str, bits: int, orders: tuple[int, ...]) -> None:
    found, (expected,) = count_compiled(text, bits, orders), count_by_arrays([text], bits, orders)
    assert found.slots.tolist() == expected.slots.tolist()
    assert found.counts.tolist() == expected.counts.tolist()
    assert [array.dtype for array in found] == [array.dtype for array in expected]


@without_compiler
def test_c_writes_beyond_no_array() -> None:
    codes, kinds = look_up(" one text ")
    room = np.empty(200, dtype=np.int32), np.empty(200, dtype=np.float32)
    assert _ngrams.count(codes, kinds, 21, 3, 5, *room) > 0
    for arrays in ((codes[:-1], kinds, 21, 3, 5, *room), (codes, kinds, 21, 3, 5, room[0][:90], room[1])):
        with pytest.raises(ValueError, match="as long as those of one text"):
            _ngrams.count(*arrays)


def test_many_texts_keep_their_order() -> None:
    texts = [f"number {number}" for number in range(2 * TEXTS_AT_ONCE + 3)]
    for together, text in zip(count(texts), texts, strict=True):
        assert together.slots.tolist() == count([text])[0].slots.tolist()


@given(st.lists(st.text(st.sampled_from("abcdeäß木"), min_size=3, max_size=9), min_size=1, max_size=6))
def test_characters_are_those_of_char_wb(words: list[str]) -> None:
    """Of words of three letters and more: of shorter ones scikit-learn counts the whole word for every order."""
    text = " ".join(words)
    vectorizer = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5))
    expected = sorted(vectorizer.fit_transform([clean(text)]).toarray()[0].tolist())
    found = part(count([text])[0], CHARACTERS, SHAPES)
    assert sum(found) == sum(expected)
    # Two of them share a slot by chance in one of some thousand texts.
    assert found == expected or len(found) == len(expected) - 1


def split(text: str) -> list[str]:
    """What the tokenizer takes for words."""
    tokenizer = Tokenizer.train([text], kind="words", vocab_size=1000, min_frequency=1)
    return [tokenizer.token(index) for index in tokenizer.encode([text], max_length=1000)[0].input_ids]


SPACED, UNSPACED = (st.text(st.sampled_from(letters), max_size=9) for letters in ("abÄß1_é,.!😀", "木水ไ"))


@given(st.lists(SPACED | UNSPACED, max_size=6).map(" ".join).filter(str.strip))
def test_words_are_the_tokenizers_alone_in_pairs_and_in_pairs_with_one_between(text: str) -> None:
    words = ["^", *split(text), "$"]
    expected = [*Counter(words[1:-1]).values()]
    expected += Counter(pairwise(words)).values()
    expected += Counter(zip(words, words[2:], strict=False)).values()
    assert part(count([text], orders=())[0], 0, CHARACTERS) == sorted(expected)


def test_the_order_of_words_tells() -> None:
    found = [set(one.slots.tolist()) for one in count(["a b a", "b a a"], orders=())]
    assert found[0] != found[1]


def shapes_of(text: str) -> list[int]:
    codes, kind = look_up(f" {text} ")
    words = split_words(codes, kind, np.array([len(codes)]))
    return [int(shape) for shape in words.shapes]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("who is Ann", "who is ANN", False),
        ("who is Ann", "who is ann", False),
        ("in 1999", "in 1875", True),
        ("in 1999", "in 99", False),
        ("in x1", "in y2", True),
        ("is Bob", "is Rob", True),
        ("is,", "is;", False),
    ],
)
def test_shapes_tell_capitals_and_numbers(one: str, other: str, alike: bool) -> None:
    first, second = map(shapes_of, (one, other))
    assert first[:-2] == second[:-2]
    assert (first[-2] == second[-2]) == alike


def test_case_is_no_matter_to_words_and_characters() -> None:
    small, large = count(["ein schönes haus", "Ein SCHÖNES Haus"])
    shapes = SLOTS // 4 * SHAPES
    assert small.slots[small.slots < shapes].tolist() == large.slots[large.slots < shapes].tolist()
    assert small.slots.tolist() != large.slots.tolist()


@given(TEXT, st.sampled_from([(), (2, 3, 4, 5), (3, 4), (2,), (7,)]))
def test_the_n_grams_that_are_placed_are_those_that_are_counted(text: str, orders: tuple[int, ...]) -> None:
    (counted,) = count([text], orders)
    placed = place_ngrams(text, num_slots=SLOTS, char_orders=orders)
    found = np.concatenate([slots for slots, _ in (*placed.of_words, *placed.of_characters)])
    slots, counts = np.unique(found, return_counts=True)
    assert (slots.tolist(), counts.tolist()) == (counted.slots.tolist(), counted.counts.tolist())


def test_a_placed_n_gram_names_its_words_or_its_characters() -> None:
    placed = place_ngrams("Ab  c1 ,", num_slots=SLOTS, char_orders=(2, 3))
    assert placed.spans.tolist() == [[0, 2], [3, 5], [6, 7]]
    alone, pairs = [[0], [1], [2]], [[-1, 0], [0, 1], [1, 2], [2, -1]]
    apart = [[-1, 1], [0, 2], [1, -1]]
    assert [units.tolist() for _, units in placed.of_words] == [alone, pairs, apart, alone, pairs, pairs]
    shown = [["".join("_Ab_c1_,"[unit + 1] for unit in row) for row in units] for _, units in placed.of_characters]
    assert shown[0] == ["_A", "Ab", "b_", "_c", "c1", "1_", "_,", ",_"], "a space, -1, is no unit"
    assert shown[1] == ["_Ab", "Ab_", "_c1", "c1_", "_,_"]


def test_no_orders_count_no_characters() -> None:
    assert part(count(["some text"], orders=())[0], CHARACTERS, SHAPES) == []
    found = part(count(["some text"], orders=(3,))[0], CHARACTERS, SHAPES)
    assert len(found) == len({" so", "som", "ome", "me ", " te", "tex", "ext", "xt "})


@pytest.mark.parametrize("text", ["ＡＢＣ  déjà\tVu", "ﬁne", "x\u00a0y", "  "])
def test_text_is_normalised_as_the_tokenizer_does(text: str) -> None:
    assert clean(text).lower() == " ".join(unicodedata.normalize("NFKC", text).lower().split())


def test_texts_join_into_a_batch() -> None:
    parts = count(["ab", "", "cd ef"])
    batch = join(parts)
    assert batch.offsets.tolist() == [0, len(parts[0].slots), len(parts[0].slots) + len(parts[1].slots)]
    assert batch.slots.tolist() == [slot for part in parts for slot in part.slots.tolist()]


def test_few_of_many_n_grams_share_a_slot() -> None:
    """A good hash spreads them as chance would: of n in m slots about n^2 / 2m share one."""
    texts = [f"word{number}" for number in range(2000)]
    slots = np.unique(np.concatenate([one.slots for one in count(texts)]))
    slots = slots[slots < SLOTS // 4 * SHAPES]
    analyzer = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5)).build_analyzer()
    characters = len({gram for text in texts for gram in analyzer(text)})
    words = 2000 * 3 + 1  # each, and with the start and the end; the start and the end with it between
    assert 0.98 * (characters + words) < len(slots) <= characters + words


def test_the_slots_are_those_of_the_checkpoints_that_were_written() -> None:
    """Another hash would make noise of every checkpoint."""
    texts = ["Where is my card?", "PAY £20 to Ann-Marie, 3rd try… 12345", "雪が降る", "", "ﬁne 𠀀 x_y\t\x00 ÀÉ A1 ABC"]
    texts.append("a" * 300)
    arrays = [one for found in count(texts, slots=1 << 21) for one in (found.slots, found.counts)]
    digest = hashlib.sha256(b"".join(one.tobytes() for one in arrays)).hexdigest()
    assert digest == "016ae2f8424f8108949f78e33a32d439aafe1865f27a9a80b6d22ae4593c6da9"
