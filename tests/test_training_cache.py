import errno
import fcntl
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from nlp_app.errors import DataError, OutputError
from tests.conftest import ROOT, make_tokenizer, write_csv
from tests.test_training_cache_rows import SEVERAL, source_of, weather
from tests.test_training_data import examples
from training import cache_files, cache_texts, cache_tokens
from training.cache_files import JOURNAL, MANIFEST, caching
from training.cache_tokens import CachedTokens
from training.cached_texts import CachedTexts
from training.data import odd_labels, read_examples, without_blank
from training.stream import LabelledText, Stream, exceeds, stream_of


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_texts, "ROWS", 7)
    monkeypatch.setattr(cache_tokens, "cores", lambda: 1)  # one process is soon there


class Told(Console):
    """A console whose lines can be looked at."""

    def __init__(self) -> None:
        super().__init__(file=io.StringIO(), width=1000)

    @property
    def lines(self) -> str:
        assert isinstance(self.file, io.StringIO)
        return self.file.getvalue()


def make(folder: Path, source: Stream, *, vocabulary: int = 0, max_length: int = 6) -> tuple[str, CachedTokens]:
    """Both stages; what they told, and the tokens."""
    console = Told()
    texts = cache_texts.cache_texts(source, folder, console)
    words = [f"word{number}" for number in range(vocabulary)]
    tokenizer = make_tokenizer([*weather(6).texts, *words])
    tokens = cache_tokens.cache_tokens(texts, folder, tokenizer, max_length=max_length, need=0, console=console)
    return console.lines, tokens


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def folders(cache: Path, kind: str) -> list[Path]:
    return sorted(cache.glob(f"{kind}-*"))


def rows_csv(path: Path, count: int = 30) -> Path:
    data = weather(count)
    return write_csv(path, [(text, str(label)) for text, label in zip(data.texts, data.labels, strict=True)])


def test_a_second_run_reads_and_tokenises_nothing(tmp_path: Path) -> None:
    source = stream_of(rows_csv(tmp_path / "rows.csv"), text_columns=["text"])
    told, _ = make(tmp_path / "cache", source)
    assert "read 30 texts in" in told
    assert "tokenised 30 texts in" in told
    before = files(tmp_path / "cache")
    assert not [name for name in before if name.endswith((JOURNAL, ".new"))]
    told, _ = make(tmp_path / "cache", source)
    assert f"30 texts of {tmp_path / 'rows.csv'} are in the cache in" in told
    assert "the tokens of 30 texts are in the cache in" in told
    assert "read 30" not in told
    assert files(tmp_path / "cache") == before


def test_other_data_or_another_way_to_read_it_is_another_cache(tmp_path: Path) -> None:
    path, cache = rows_csv(tmp_path / "rows.csv"), tmp_path / "cache"
    make(cache, stream_of(path, text_columns=["text"]))
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    make(cache, stream_of(path, text_columns=["text"]))
    assert (len(folders(cache, "texts")), len(folders(cache, "tokens"))) == (2, 1), "the texts are the same"
    path.write_text(path.read_text() + "more text,hot\n")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    _, tokens = make(cache, stream_of(path, text_columns=["text"]))
    assert len(tokens) == 31, "by its size alone"
    assert (len(folders(cache, "texts")), len(folders(cache, "tokens"))) == (3, 2)
    make(cache, stream_of(path, text_columns=["text"], separator=";"))
    assert len(folders(cache, "texts")) == 4


def test_another_tokenizer_or_length_is_another_cache_of_the_same_texts(tmp_path: Path) -> None:
    source = source_of(weather(30))
    make(tmp_path, source)
    make(tmp_path, source, max_length=5)
    make(tmp_path, source, vocabulary=3)
    assert (len(folders(tmp_path, "texts")), len(folders(tmp_path, "tokens"))) == (1, 3)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm", [flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])], ids=["flipped", "gone", "cut"]
)
@pytest.mark.parametrize(
    "name", ["texts-00001.arrow", "tokens-00001.arrow", "lengths.bin", f"texts/{MANIFEST}", f"tokens/{MANIFEST}"]
)
def test_what_is_damaged_is_noticed_and_made_again(tmp_path: Path, name: str, harm: Callable[[Path], object]) -> None:
    source = source_of(weather(30))
    make(tmp_path, source)
    before = files(tmp_path)
    kind, _, file = name.partition("/")
    (path,) = tmp_path.glob(f"{kind}-*/{file}") if file else tmp_path.glob(f"*/{name}")
    if harm is flip and file == MANIFEST:
        path.write_bytes(b"[1, 2")
    else:
        harm(path)
    make(tmp_path, source)
    assert files(tmp_path) == before


def test_only_a_damaged_table_is_tokenised_again(tmp_path: Path) -> None:
    source = source_of(weather(30))
    make(tmp_path, source)
    (path,) = tmp_path.glob("*/tokens-00002.arrow")
    others = {one: one.stat().st_mtime_ns for one in path.parent.glob("tokens*.arrow") if one != path}
    flip(path)
    told, _ = make(tmp_path, source)
    assert "4 of 5 tables were tokenised before: going on from there" in told
    assert {one: one.stat().st_mtime_ns for one in others} == others


def test_texts_are_read_again_from_the_damaged_table_on(tmp_path: Path) -> None:
    source = source_of(weather(30))
    make(tmp_path, source)
    (path,) = tmp_path.glob("*/texts-00002.arrow")
    flip(path)
    told, _ = make(tmp_path, source)
    assert "14 texts were read before: going on from there" in told
    assert "the tokens of 30 texts are in the cache" in told


def test_a_line_of_the_journal_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    source = source_of(weather(30))
    make(tmp_path, source)
    before = files(tmp_path)
    (folder,) = folders(tmp_path, "texts")
    tables = json.loads((folder / MANIFEST).read_bytes())["tables"]
    (folder / MANIFEST).unlink()
    (folder / JOURNAL).write_bytes(json.dumps(tables[0]).encode() + b"\n" + json.dumps(tables[1]).encode()[:40])
    told, _ = make(tmp_path, source)
    assert "7 texts were read before" in told
    assert files(tmp_path) == before


def test_odd_rows_are_told_as_in_memory(tmp_path: Path) -> None:
    data = examples(["a", "a", "A", "b", "a", "c"] * 2 + ["d"] * 8, ["x", "", " ", "y", "\t", "z"] * 2 + [""] * 8)
    texts = cache_texts.cache_texts(source_of(data), tmp_path, Told())
    rest, told = without_blank(data)
    assert texts.warnings() == told + odd_labels(rest)
    assert texts.label_counts == rest.label_counts
    several = examples([SEVERAL[row % 5] for row in range(40)])
    assert cache_texts.cache_texts(source_of(several), tmp_path, Told()).warnings() == odd_labels(several)


@pytest.mark.parametrize(
    ("texts", "message"),
    [([], "train.csv holds no row: there must be at least one text"), ([" "] * 9, "train.csv: the text of every row")],
)
def test_refuses_no_texts(tmp_path: Path, texts: list[str], message: str) -> None:
    data = examples(["a"] * len(texts), texts) if texts else weather(6).take([])
    with pytest.raises(DataError, match=message):
        cache_texts.cache_texts(source_of(data), tmp_path, Told())
    with pytest.raises(DataError, match=message):  # and it is no cache the next time
        cache_texts.cache_texts(source_of(data), tmp_path, Told())


def test_a_row_that_breaks_a_rule_ends_it_and_what_is_whole_is_kept(tmp_path: Path) -> None:
    path = rows_csv(tmp_path / "rows.csv", 20)
    path.write_text(path.read_text() + "no label,\n")
    source = stream_of(path, text_columns=["text"])
    with pytest.raises(DataError, match=r"rows.csv:22: the row has no 'label': give it a label or remove it"):
        make(tmp_path / "cache", source)
    (folder,) = folders(tmp_path / "cache", "texts")
    assert not (folder / MANIFEST).exists()
    assert len((folder / JOURNAL).read_bytes().splitlines()) == 2


@pytest.mark.parametrize("stage", ["texts", "tokens", "lengths", MANIFEST])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    source = source_of(weather(30))
    fill_disk(monkeypatch, stage)
    with pytest.raises(OutputError) as error:
        make(tmp_path, source)
    assert "the disk is full, of which the cache in " in str(error.value)
    assert "free some, or name a larger disk with --cache-dir, and run the same command again" in str(error.value)
    assert not list(tmp_path.rglob("*.new"))
    monkeypatch.undo()
    monkeypatch.setattr(cache_texts, "ROWS", 7)
    make(tmp_path, source)
    found = files(tmp_path)
    make(tmp_path / "other", source)
    assert found == files(tmp_path / "other")


def fill_disk(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """From the second table of a stage on, none can be written."""
    full = OSError(errno.ENOSPC, "No space left on device")
    write, written = cache_files.replace_file, cache_tokens._write_lengths

    def no_more(path: Path, data: Any) -> None:
        if stage in path.name and (stage == MANIFEST or "00001" in path.name):
            raise full
        write(path, data)

    def no_table(*arguments: Any) -> Any:
        raise full

    monkeypatch.setattr(cache_files, "replace_file", no_more)
    if stage == "tokens":
        monkeypatch.setattr(cache_tokens, "_ask", no_table)
    monkeypatch.setattr(cache_tokens, "_write_lengths", no_table if stage == "lengths" else written)


def test_the_sentence_says_how_much_it_takes_about(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the cache in .* takes about 2.5 GB"), caching(tmp_path, 2_500_000_000):
        raise OSError(errno.ENOSPC, "full")
    refused = pytest.raises(
        OutputError, match="cannot be written: Read-only file system; name another with --cache-dir"
    )
    with refused, caching(tmp_path, 0):
        raise OSError(errno.EROFS, "Read-only file system")


def test_a_process_that_tokenises_says_that_the_disk_is_full(tmp_path: Path) -> None:
    """A real one, with a limit on the size of its files in place of a disk."""
    texts = cache_texts.cache_texts(source_of(weather(30)), tmp_path, Told())
    program = """if True:
        import errno, sys
        from training import cache_files, cache_worker
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")
        cache_files.replace_file = full
        sys.exit(cache_worker.main())
    """
    (tmp_path / "tokenizer.json").write_bytes(make_tokenizer().to_bytes())
    job = {"texts": str(texts.folder / texts.names[0]), "output": str(tmp_path / "tokens-00000.arrow")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "tokenizer.json"), "6"], input=f"{json.dumps(job)}\n", cwd=ROOT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"errno": errno.ENOSPC, "reason": "No space left on device"}


def test_a_process_that_ends_before_its_work_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(OutputError, match=r"a process that tokenises .*texts-0000\d.arrow ended with 0, as where"):
        make(tmp_path, source_of(weather(30)))


def test_a_second_run_waits_for_the_first_and_uses_what_it_made(tmp_path: Path) -> None:
    """Two real processes on one cache, both begun before it is there."""
    path = rows_csv(tmp_path / "rows.csv", 60)
    runs = [subprocess.Popen(*program(path, tmp_path / "cache"), stdout=subprocess.PIPE) for _ in range(2)]
    told = [one.communicate()[0].decode() for one in runs]
    assert [one.returncode for one in runs] == [0, 0]
    assert sorted("read 60 texts in" in one for one in told) == [False, True]
    assert sorted("tokenised 60 texts in" in one for one in told) == [False, True]
    make_whole(path, tmp_path / "other")
    assert files(tmp_path / "cache") == files(tmp_path / "other")


def test_waiting_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)

    def say(message: str) -> None:
        said.append(message)
        os.close(holder)

    with cache_files.alone(tmp_path, say):
        assert said == [f"another run is at work on the cache in {tmp_path}: waiting for it"]


PROGRAM = """if True:
    import os, signal, sys
    from pathlib import Path
    from rich.console import Console
    from training import cache_files, cache_texts, cache_tokens
    from training.cache_tokens import cache_tokens as tokens
    from training.stream import stream_of
    from tests.conftest import make_tokenizer
    from tests.test_training_cache_rows import weather
    cache_texts.ROWS = 7
    def die():
        os.kill(os.getpid(), signal.SIGKILL)
    {harm}
    console = Console(soft_wrap=True)
    texts = cache_texts.cache_texts(stream_of(Path(sys.argv[1]), text_columns=["text"]), Path(sys.argv[2]), console)
    tokens(texts, Path(sys.argv[2]), make_tokenizer(weather(6).texts), max_length=6, need=0, console=console)
"""
AT_A_BOUNDARY = """
    record = cache_files.record
    def then_die(folder, entry):
        record(folder, entry)
        if entry["name"] == "{name}":
            die()
    cache_texts.record = cache_tokens.record = then_die
"""
BEFORE_THE_JOURNAL = """
    record = cache_files.record
    def die_first(folder, entry):
        if entry["name"] == "{name}":
            die()
        record(folder, entry)
    cache_texts.record = cache_tokens.record = die_first
"""
IN_THE_MIDDLE = """
    replace = cache_files.replace_file
    def half(path, data):
        if path.name == "{name}" or (path.name, path.parent.name[:6]) == ("{name}", "tokens"):
            path.with_name(path.name + ".1.new").write_bytes(bytes(data)[:100])
            die()
        replace(path, data)
    cache_files.replace_file = half
"""
IN_THE_LINE = """
    def half(folder, entry):
        import json
        with (folder / cache_files.JOURNAL).open("ab") as file:
            file.write(json.dumps(entry).encode()[:50])
        die()
    cache_texts.record = half
"""


def program(path: Path, cache: Path, harm: str = "") -> tuple[list[str]]:
    return ([sys.executable, "-c", PROGRAM.replace("{harm}", harm), str(path), str(cache)],)


def make_whole(path: Path, cache: Path, harm: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(*program(path, cache, harm), cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file, and the cache of it that nobody disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    path = rows_csv(folder / "rows.csv", 40)
    assert make_whole(path, folder / "cache").returncode == 0
    return path, folder / "cache"


@pytest.mark.parametrize(
    ("harm", "name", "goes_on"),
    [
        (AT_A_BOUNDARY, "texts-00001.arrow", "14 texts were read before: going on from there"),
        (BEFORE_THE_JOURNAL, "texts-00002.arrow", "14 texts were read before: going on from there"),
        (IN_THE_MIDDLE, "texts-00003.arrow", "21 texts were read before: going on from there"),
        (IN_THE_MIDDLE, MANIFEST, "40 texts were read before: going on from there"),
        (IN_THE_LINE, "", "reading"),
        (AT_A_BOUNDARY, "tokens-00002.arrow", "tables were tokenised before: going on from there"),
        (BEFORE_THE_JOURNAL, "tokens-00003.arrow", "are in the cache in"),
    ],
)
def test_a_killed_process_is_gone_on_from_to_the_same_bytes(
    unbroken: tuple[Path, Path], tmp_path: Path, harm: str, name: str, goes_on: str
) -> None:
    path, whole = unbroken
    assert make_whole(path, tmp_path, harm.replace("{name}", name)).returncode == -9
    assert files(tmp_path) != files(whole)
    again = make_whole(path, tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert goes_on in again.stdout
    assert files(tmp_path) == files(whole)


def test_rows_one_at_a_time_are_those_of_read_examples(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, object]] = [
        {"text": "x", "label": None},
        {"text": "y", "label": ["a", "a", "b"]},
        {"text": "", "label": []},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = read_examples(path, text_columns=["text"])
    found = list(stream_of(path, text_columns=["text"]).read())
    assert found == [LabelledText(*row) for row in zip(whole.texts, whole.labels, whole.lines, strict=True)]


def test_refuses_a_list_among_texts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x", "label": "a"}\n{"text": "y", "label": ["a"]}\n')
    with pytest.raises(DataError, match=r"rows.jsonl:2: 'label' is a list, where other rows have a text: write all of"):
        list(stream_of(path, text_columns=["text"]).read())


def test_how_much_text_there_is_is_read_only_where_the_size_does_not_tell(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", [("x" * 50, "a")] * 4)

    def never() -> Iterator[LabelledText]:
        raise AssertionError

    small = stream_of(path, text_columns=["text"])
    assert not exceeds(Stream(**{**vars(small), "read": never}), texts=1000, characters=1000)
    assert exceeds(small, texts=4, characters=199)
    assert exceeds(small, texts=3, characters=200)
    assert not exceeds(small, texts=4, characters=200)
    assert not exceeds(stream_of(tmp_path / "none.csv", text_columns=["text"]), texts=0, characters=0)
    large = stream_of(path, text_columns=["text"])
    assert exceeds(Stream(**{**vars(large), "read": never}), texts=4, characters=60), (
        "three times as much is large at a glance"
    )
    wide = write_csv(tmp_path / "wide.csv", [("x", "a", "y" * 500)] * 4, ("text", "label", "more"))
    assert not exceeds(stream_of(wide, text_columns=["text"]), texts=4, characters=4), (
        "of other columns nothing is kept"
    )


def test_the_texts_in_the_cache_are_those_of_the_source(tmp_path: Path) -> None:
    data = weather(30)
    texts: CachedTexts = cache_texts.cache_texts(source_of(data), tmp_path, Told())
    assert len(texts.names) == 5
    assert sum(1 for _ in folders(tmp_path, "texts")) == 1
    assert texts.examples(np.arange(30)) == data
