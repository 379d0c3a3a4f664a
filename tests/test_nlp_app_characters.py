import unicodedata
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_app.characters import MOST_MARKS, is_mark, nfkc
from nlp_app.ngrams import clean
from nlp_app.places import clean_places

MARKS = "\u0301\u0327\u0315\u0f73\u0344\uff9e\U0001d165"
SOME_MARKS = st.text(st.sampled_from(MARKS), max_size=MOST_MARKS)


@given(st.lists(st.tuples(st.characters(exclude_categories=["Cs"]).filter(lambda one: not is_mark(one)), SOME_MARKS)))
def test_no_text_of_a_language_is_changed(letters: list[tuple[str, str]]) -> None:
    text = "".join(letter + marks for letter, marks in letters)
    assert nfkc(text) == unicodedata.normalize("NFKC", text)


def test_many_characters_of_other_kinds_are_no_marks() -> None:
    text = "\U0001d15e\U00020000🙂" * 2 * MOST_MARKS
    assert nfkc(text) == unicodedata.normalize("NFKC", text)


@given(st.text(st.sampled_from("a e\u1100🙂" + MARKS), max_size=5), SOME_MARKS, st.integers(1, 3 * MOST_MARKS))
def test_of_a_long_run_of_marks_the_first_are_kept(before: str, marks: str, repeats: int) -> None:
    """However many characters each is made of; and each character that is kept has a place in the text."""
    text = f"{before}b{marks * repeats}c"
    assert nfkc(text) == nfkc(before) + unicodedata.normalize("NFKC", f"b{(marks * repeats)[:MOST_MARKS]}c")
    assert len(clean_places(text)) == len(clean(text))


def test_a_hostile_text_is_as_quick_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is given to the library to sort but short runs; 64,000 marks took 47 s."""
    lengths = {"NFKC": 0, "NFKD": 0}
    normalized = unicodedata.normalize

    def normalize(form: Literal["NFKC", "NFKD"], text: str) -> str:
        lengths[form] = max(lengths[form], len(text))
        return normalized(form, text)

    text = "a" + "\u0f73\u0f75\u0f81" * 21_000 + "b"
    with monkeypatch.context() as patch:  # pytest itself normalises what it prints
        patch.setattr(unicodedata, "normalize", normalize)
        nfkc(text)
    assert lengths["NFKC"] == MOST_MARKS + 2
