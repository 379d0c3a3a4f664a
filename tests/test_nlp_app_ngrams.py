"""N-grams are what scikit-learn counts, whatever texts are counted beside them."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from nlp_app.ngrams import Ngrams, clean, count_ngrams, join, place_ngrams

SLOTS = 1 << 20
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
IDS = st.lists(st.integers(1, 50), min_size=1, max_size=12)


def ids(values: list[int]) -> NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


def count(texts: list[str], tokens: list[list[int]], orders: tuple[int, ...] = (2, 3, 4, 5)) -> list[Ngrams]:
    return count_ngrams(texts, [ids(one) for one in tokens], num_slots=SLOTS, char_orders=orders)


@given(st.lists(st.tuples(TEXT, IDS), min_size=1, max_size=6))
def test_a_text_has_the_same_n_grams_alone_as_beside_others(rows: list[tuple[str, list[int]]]) -> None:
    texts, tokens = map(list, zip(*rows, strict=True))
    for together, text, one in zip(count(texts, tokens), texts, tokens, strict=True):
        (alone,) = count([text], [one])
        assert together.slots.tolist() == alone.slots.tolist()
        assert together.counts.tolist() == alone.counts.tolist()
        assert (np.diff(alone.slots) > 0).all()


@given(st.lists(st.text(st.sampled_from("abcdeäß木"), min_size=3, max_size=9), min_size=1, max_size=6))
def test_characters_are_those_of_char_wb(words: list[str]) -> None:
    """Of words of three letters and more: of shorter ones scikit-learn counts the whole word for every order."""
    text = " ".join(words)
    vectorizer = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5))
    expected = vectorizer.fit_transform([clean(text)]).toarray()[0]
    found = count([text], [[1]])[0]
    characters = found.counts[found.slots >= SLOTS // 2]
    assert sorted(characters.tolist()) == sorted(expected.tolist())


@given(TEXT, IDS, st.sampled_from([(), (2, 3, 4, 5), (3, 4), (2,), (7,)]))
def test_the_n_grams_that_are_placed_are_those_that_are_counted(
    text: str, tokens: list[int], orders: tuple[int, ...]
) -> None:
    (counted,) = count([text], [tokens], orders)
    words, characters = place_ngrams(text, ids(tokens), num_slots=SLOTS, char_orders=orders)
    slots, counts = np.unique(np.concatenate([slots for slots, _ in (*words, *characters)]), return_counts=True)
    assert (slots.tolist(), counts.tolist()) == (counted.slots.tolist(), counted.counts.tolist())


def test_a_placed_n_gram_names_its_tokens_or_its_characters() -> None:
    words, characters = place_ngrams("Ab  c", ids([7, 8, 9]), num_slots=SLOTS, char_orders=(2, 3))
    assert [units.tolist() for _, units in words] == [
        [[0], [1], [2]],
        [[-1, 0], [0, 1], [1, 2], [2, -1]],
        [[-1, 1], [0, 2], [1, -1]],
    ]
    shown = [["".join("_ab c"[unit + 1] for unit in row) for row in units] for _, units in characters]
    assert shown == [["_a", "ab", "b_", "_c", "c_"], ["_ab", "ab_", "_c_"]], "a space, -1, is no unit"


def test_words_are_counted_alone_in_pairs_and_in_pairs_with_one_between() -> None:
    (found,) = count(["x"], [[7, 8, 7]], orders=())
    # 7 twice, 8; (start 7) (7 8) (8 7) (7 end); (start _ 8) (7 _ 7) (8 _ end)
    assert sorted(found.counts.tolist()) == [1] * 8 + [2]
    (other,) = count(["x"], [[8, 7, 7]], orders=())
    assert set(found.slots) != set(other.slots), "the order of words tells"
    assert (found.slots < SLOTS // 2).all()


def test_no_orders_count_no_characters() -> None:
    (found,) = count(["some text"], [[5]], orders=())
    assert (found.slots < SLOTS // 2).all()
    (found,) = count(["some text"], [[5]], orders=(3,))
    assert (found.slots >= SLOTS // 2).sum() == len({" so", "som", "ome", "me ", " te", "tex", "ext", "xt "})


@pytest.mark.parametrize("text", ["ＡＢＣ  déjà\tVu", "ﬁne", "x\u00a0y", "  "])
def test_text_is_normalised_as_the_tokenizer_does(text: str) -> None:
    assert clean(text) == " ".join(unicodedata.normalize("NFKC", text).lower().split())


def test_texts_join_into_a_batch() -> None:
    parts = count(["ab", "", "cd ef"], [[3], [1], [4, 5]])
    batch = join(parts)
    assert batch.offsets.tolist() == [0, len(parts[0].slots), len(parts[0].slots) + len(parts[1].slots)]
    assert batch.slots.tolist() == [slot for part in parts for slot in part.slots.tolist()]


def test_few_of_many_n_grams_share_a_slot() -> None:
    """A good hash spreads them as chance would: of n in m slots about n^2 / 2m share one."""
    texts = [f"word{number}" for number in range(2000)]
    slots = np.unique(np.concatenate([one.slots for one in count(texts, [[number + 2] for number in range(2000)])]))
    analyzer = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5)).build_analyzer()
    characters = len({gram for text in texts for gram in analyzer(text)})
    words = 2000 * 3 + 1  # each, and with the start and the end; the start and the end with it between
    assert 0.98 * (characters + words) < len(slots) <= characters + words
