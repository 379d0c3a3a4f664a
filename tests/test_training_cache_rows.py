from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nlp_app.config import ModelConfig
from nlp_app.errors import DataError
from nlp_app.tokenizer import Tokenizer
from tests.conftest import LABELS, ROW_LABELS, TEXTS, make_tokenizer
from tests.test_training_data import SETS, examples
from training import cache_texts, cache_tokens, held
from training.batches import Dataset, epoch_batches
from training.cache_texts import cache_texts as cached
from training.cached_rows import CachedRows, Part
from training.cached_texts import CachedTexts
from training.data import Examples, Labels, split
from training.held import held_rows
from training.linear import FEW_SLOTS
from training.sampled import sample_rows, within
from training.stream import LabelledText, Stream

QUIET = Console(quiet=True)


def source_of(data: Examples, path: Path = Path("train.csv")) -> Stream:
    rows = [LabelledText(*row) for row in zip(data.texts, data.labels, data.lines, strict=True)]
    key = {"rows": [[row.text, row.labels, row.line] for row in rows]}
    return Stream(path=path, key=lambda: key, read=lambda: iter(rows), bytes=1000, most_characters=1000)


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_texts, "ROWS", 7)
    monkeypatch.setattr(cache_tokens, "cores", lambda: 1)  # one process is soon there


def rows_of(
    data: Examples, folder: Path, *, held: list[int], tokenizer: Tokenizer | None = None, **values: object
) -> tuple[CachedRows, Dataset, Dataset]:
    """The rows that stay, from the cache and in memory, and in memory those that are held back."""
    texts, tokenizer = cached(source_of(data), folder, QUIET), tokenizer or make_tokenizer()
    settings: dict[str, object] = {"ngram_slots": FEW_SLOTS, "ngram_orders": (2, 3), "max_length": 6}
    config = ModelConfig(labels=LABELS, vocab_size=tokenizer.vocab_size, **(settings | values))  # type: ignore[arg-type]
    tokens = cache_tokens.cache_tokens(texts, folder, tokenizer, max_length=config.max_length, need=0, console=QUIET)
    rows = CachedRows(
        part=Part(texts=texts, held=np.array(held, dtype=np.int64)), tokens=tokens, tokenizer=tokenizer, config=config
    )
    stay = [row for row in range(len(data)) if row not in held]
    of = [Dataset.of(data.take(part), tokenizer=tokenizer, config=config) for part in (stay, held)]
    return rows, of[0], of[1]


def weather(count: int) -> Examples:
    return examples([ROW_LABELS[row % 6] for row in range(count)], [f"{TEXTS[row % 6]} {row}é" for row in range(count)])


SEVERAL: list[Labels] = [("hot", "cold"), (), ("warm",), ("warm", "hot", "cold"), ("cold",)]


def several(count: int) -> Examples:
    return examples([SEVERAL[row % 5] for row in range(count)], weather(count).texts)


@pytest.mark.parametrize("held", [[], [0], [24], [0, 1, 2, 7, 13, 20, 23]])
@pytest.mark.parametrize("multi_label", [False, True])
def test_batches_from_the_cache_are_those_in_memory(tmp_path: Path, held: list[int], multi_label: bool) -> None:
    data = several(25) if multi_label else weather(25)
    rows, expected, _ = rows_of(data, tmp_path, held=held, multi_label=multi_label)
    assert (len(rows), rows.tokens, rows.longest) == (len(expected), expected.tokens, expected.longest)
    assert rows.targets.tolist() == expected.targets.tolist()
    orders = [epoch_batches(one.lengths, batch_size=4, seed=3, epoch=2) for one in (rows, expected)]
    for mine, theirs in zip(*orders, strict=True):
        assert mine.tolist() == theirs.tolist(), "the very order of an epoch in memory"
        for one, other in zip(rows.batch(mine), expected.batch(theirs), strict=True):
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist()
    ids, memory = rows.input_ids(10**9), expected.input_ids(0)
    assert [one.tolist() for one in ids] == [one.tolist() for one in memory]


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("multi_label", [False, True])
def test_rows_in_memory_can_follow_those_in_the_cache(tmp_path: Path, step: int, multi_label: bool) -> None:
    data = several(25) if multi_label else weather(25)
    rows, stay, held = rows_of(data, tmp_path, held=[3, 4, 19], multi_label=multi_label)
    joined, expected = rows + held, stay + held
    numbers = np.array([24, 0, 22, 21, 5, 23])
    for one, other in zip(joined.batch(numbers), expected.batch(numbers), strict=True):
        assert one.tolist() == other.tolist()
    assert (len(joined), joined.tokens, joined.longest) == (len(expected), expected.tokens, expected.longest)
    assert joined.lengths.tolist() == expected.lengths.tolist()
    assert joined.targets.tolist() == expected.targets.tolist()
    mine, theirs = joined.every(step), expected.every(step)
    assert mine.targets.tolist() == theirs.targets.tolist()
    for ours, memory in zip(mine.encoded, theirs.encoded, strict=True):
        assert ours.input_ids.tolist() == memory.input_ids.tolist()
        assert ours.ngrams.slots.tolist() == memory.ngrams.slots.tolist()


def test_an_epoch_from_the_cache_is_a_true_shuffle(tmp_path: Path) -> None:
    rows, _, _ = rows_of(weather(100), tmp_path, held=[5])
    epochs = [np.concatenate(epoch_batches(rows.lengths, batch_size=4, seed=0, epoch=epoch)) for epoch in (1, 2)]
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(99))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()
    first = epochs[0][:20]
    assert np.ptp(first // 7) > 7, "not a table after another"


def test_the_branch_is_fitted_to_a_sample_of_many_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.cached_rows.NGRAM_TEXTS", 10)
    rows, stay, _ = rows_of(weather(60), tmp_path, held=[])
    sample = rows.every(1)
    assert len(sample) == 10
    assert [one.input_ids.tolist() for one in sample.encoded] == [
        stay.encoded[row].input_ids.tolist() for row in rows.sampled(1).tolist()
    ]
    monkeypatch.setattr("training.cached_rows.NGRAM_BYTES", 100)
    assert 1 <= len(rows.every(1)) < 5


def test_a_large_vocabulary_has_ids_of_four_bytes(tmp_path: Path) -> None:
    texts = [f"{TEXTS[0]} {number} {number + 1}" for number in range(0, 70_000, 2)]
    tokenizer = Tokenizer.train(texts, kind="words", vocab_size=100_000, min_frequency=1)
    data = examples(["cold", "hot"] * 10, texts[-20:])
    rows, expected, _ = rows_of(data, tmp_path, held=[], tokenizer=tokenizer, max_length=50)
    ids = rows.ids_of(np.array([19]))[0]
    assert ids.max() > 1 << 16
    assert ids.tolist() == expected.encoded[19].input_ids.tolist()
    short, _, _ = rows_of(weather(7), tmp_path, held=[])
    assert short.ids_of(np.array([0]))[0].dtype == np.uint16


def test_labels_have_codes_in_the_order_in_which_they_come(tmp_path: Path) -> None:
    data = examples([("b", "a"), (), ("c",), ("a",)] * 5)
    texts = cached(source_of(data), tmp_path, QUIET)
    assert texts.labels == ("b", "a", "c")
    assert [texts.codes(row) for row in range(4)] == [[0, 1], [], [2], [1]]
    assert texts.label_counts == data.label_counts
    assert texts.examples(np.array([0, 1, 9, 18])) == data.take([0, 1, 9, 18])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=100), st.floats(0.01, 0.5), st.integers(0, 3))
def test_what_is_held_back_is_what_split_holds_back(shared: Path, labels: list[str], share: float, seed: int) -> None:
    same_split(examples(labels), shared, share, seed)


@given(SETS, st.floats(0.01, 0.5), st.integers(0, 3))
def test_the_same_of_several_labels(shared: Path, sets: list[tuple[str, ...]], share: float, seed: int) -> None:
    same_split(examples(sets), shared, share, seed)


def same_split(data: Examples, folder: Path, share: float, seed: int) -> None:
    texts = cached(source_of(data), folder, QUIET)
    if not any(all(data.label_counts[label] > 1 for label in labels) for labels in data.label_lists):
        with pytest.raises(DataError, match="every text is the only one of a label"):
            held_rows(texts, share=share, seed=seed)
        return
    part = Part(texts=texts, held=held_rows(texts, share=share, seed=seed))
    stay, back = split(data, share=share, seed=seed)
    assert texts.examples(part.held) == back
    assert texts.examples(part.rows(np.arange(len(part)))) == stay


def test_no_more_is_held_back_than_a_score_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MOST_HELD", 10)
    texts = cached(source_of(weather(600)), tmp_path, QUIET)
    rows = held_rows(texts, share=0.1, seed=0)
    counts = Counter(texts.examples(rows).labels)
    assert 9 <= len(rows) <= 11
    assert max(counts.values()) - min(counts.values()) <= 1, "each label has its share"


def test_a_sample_is_uniform_and_always_the_same() -> None:
    assert sample_rows(1000, most=10).tolist() == sample_rows(1000, most=10).tolist()
    assert sorted(sample_rows(10, most=100).tolist()) == list(range(10))
    sample = sample_rows(100_000, most=20_000)
    assert len(set(sample.tolist())) == 20_000
    tenths = np.bincount(sample // 10_000, minlength=10)
    assert np.abs(tenths - 2000).max() < 5 * 40, "of each tenth of the rows a tenth of the sample, but for chance"
    assert np.abs(sample[:5000].mean() - 50_000) < 5 * 410, "in random order, for the first of them to be a sample"


def test_a_sample_has_no_more_than_so_much_text() -> None:
    rows = np.array([8, 2, 5, 1])

    def sizes_of(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return rows * 10

    assert within(rows, sizes_of, 100).tolist() == [2, 8]
    assert within(rows, sizes_of, 160).tolist() == [1, 2, 5, 8]
    assert within(rows, sizes_of, 1).tolist() == [8]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_cache_of_many_tables_keeps_no_file_open(tmp_path: Path) -> None:
    before = open_files()
    texts = cached(source_of(weather(200)), tmp_path, QUIET)
    assert isinstance(texts, CachedTexts)
    assert len(texts.tables) == 29
    assert open_files() <= before + 1
