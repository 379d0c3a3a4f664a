from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_app.errors import DataError
from tests.conftest import write_csv
from training.data import (
    Examples,
    Labels,
    check_labels_known,
    label_set,
    odd_labels,
    read_examples,
    split,
    without_blank,
)


def examples(labels: Sequence[Labels], texts: list[str] | None = None) -> Examples:
    texts = texts or [f"text {number}" for number in range(len(labels))]
    return Examples(path=Path("train.csv"), texts=texts, labels=labels, lines=list(range(2, len(labels) + 2)))


def read(path: Path, *columns: str) -> Examples:
    return read_examples(path, text_columns=columns or ("text",), label_column="label")


def test_reads_texts_labels_and_lines(tmp_path: Path) -> None:
    found = read(write_csv(tmp_path / "rows.csv", [("x", "01"), ("y", "NA"), ("z", " a ")]))
    assert (found.texts, found.labels, found.lines) == (["x", "y", "z"], ["01", "NA", " a "], [2, 3, 4])


def test_joins_text_columns(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", [("hi", "there", "a"), ("", "alone", "b")], ("subject", "body", "label"))
    assert read(path, "subject", "body").texts == ["hi there", "alone"]


@pytest.mark.parametrize("label", ["", "  "])
def test_refuses_a_row_with_no_label(tmp_path: Path, label: str) -> None:
    path = write_csv(tmp_path / "rows.csv", [("x", "a"), ("y", label)])
    with pytest.raises(DataError, match=r"rows.csv:3: the row has no 'label': give it a label or remove it"):
        read(path)


def test_refuses_a_null_label(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x", "label": null}\n')
    with pytest.raises(DataError, match=r"rows.jsonl:1: the row has no 'label'"):
        read(path)


def test_refuses_a_file_of_no_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.csv holds no row: there must be at least one text"):
        read(write_csv(tmp_path / "rows.csv", []))


def test_blank_texts_are_dropped_and_counted() -> None:
    rest, told = without_blank(examples(list("abcab"), ["x", "", " \t", "y", "\u3000"]))
    assert (rest.texts, rest.labels, rest.lines) == (["x", "y"], ["a", "a"], [2, 5])
    assert told == ["train.csv: dropped 3 rows with blank text: line 3, line 4, line 6"]
    assert without_blank(rest) == (rest, [])
    _, told = without_blank(examples(["a"] * 9, ["x"] + [""] * 8))
    assert told == ["train.csv: dropped 8 rows with blank text: line 3, line 4, line 5 and 5 more"]


def test_refuses_nothing_but_blank_texts() -> None:
    with pytest.raises(DataError, match="the text of every row is blank: is this the right text column"):
        without_blank(examples(["a", "b"], ["", " "]))


def test_tells_of_labels_with_one_text_and_of_twins() -> None:
    told = odd_labels(examples(["a", "a", "A", "A", " a", " a", "b"]))
    assert told == [
        "train.csv: 1 label with one text each, kept for training only: 'b'",
        "train.csv: 1 group of labels differing only in case or surrounding space, kept as separate classes: "
        "'a' and 'A' and ' a'",
    ]
    assert odd_labels(examples(list("aabb"))) == []


def test_refuses_a_single_class() -> None:
    with pytest.raises(DataError, match="every row has the label 'a': a classifier needs at least two labels"):
        label_set(examples(["a", "a"]))


def test_labels_are_sorted() -> None:
    assert label_set(examples(["b", "a", "b"])) == ("a", "b")


def test_refuses_a_label_never_seen_in_training() -> None:
    check_labels_known(examples(["a", "b"]), ["a", "b"])
    with pytest.raises(DataError, match=r"train.csv:3: the label 'c' was never seen in training: correct it"):
        check_labels_known(examples(["a", "c"]), ["a", "b"])


LABELS = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=300)


@given(LABELS, st.floats(0.01, 0.5), st.integers(0, 5))
def test_split_is_stratified_whole_and_repeatable(labels: list[str], share: float, seed: int) -> None:
    counts = Counter(labels)
    data = examples(labels)
    if max(counts.values()) == 1:
        with pytest.raises(DataError, match="every text is the only one of a label"):
            split(data, share=share, seed=seed)
        return
    kept, held = split(data, share=share, seed=seed)
    assert (kept, held) == split(data, share=share, seed=seed)
    assert sorted(kept.lines + held.lines) == data.lines
    assert kept.lines == sorted(kept.lines)
    assert len(held) >= 1
    assert set(kept.labels) == set(labels), "every label stays in training"
    for label, count in held.label_counts.items():
        assert count <= share * counts[label] + 1 or len(held) == 1
    if min(counts.values()) > 1:
        assert abs(len(held) - share * len(labels)) <= 1 or len(held) == 1


def test_another_seed_gives_another_split() -> None:
    data = examples(list("ab") * 50)
    assert split(data, share=0.2, seed=0)[1].lines != split(data, share=0.2, seed=1)[1].lines


SETS = st.lists(st.sets(st.sampled_from("abcde"), max_size=3).map(lambda one: tuple(sorted(one))), min_size=1)


@given(SETS, st.floats(0.01, 0.5), st.integers(0, 5))
def test_each_of_several_labels_keeps_a_text_in_training(sets: list[tuple[str, ...]], share: float, seed: int) -> None:
    data = examples(sets)
    counts = data.label_counts
    if not any(all(counts[label] > 1 for label in labels) for labels in sets):
        with pytest.raises(DataError, match="every text is the only one of a label: give at least one label a second"):
            split(data, share=share, seed=seed)
        return
    train, held = split(data, share=share, seed=seed)
    assert train.label_counts.keys() == counts.keys()
    assert len(held) >= 1
