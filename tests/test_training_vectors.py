import gzip
import json
import ssl
import sys
import urllib.error
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchtext.vocab

from nlp_app.errors import ConfigError, DataError
from nlp_app.model import EMBEDDING_STD
from tests.conftest import Refused, make_tokenizer
from training import run, vectors
from training.console import make_console
from training.options import Options
from training.prepare import Prepared, prepare
from training.vector_file import read_vector_file
from training.vectors import read_vectors

SMALL = ("--num-filters", 4, "--epochs", 1, "--ngrams", "none")
WORDS = {"snow": (1, 2, 3), "ice": (4, 0, -2), "fire": (0.5, 0.25, 1e-3), "Sun": (7, 7, 7), "elsewhere": (9, 9, 9)}
LINES = [f"{word} {' '.join(map(str, numbers))}" for word, numbers in WORDS.items()]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def save_static(folder: Path, rows: Mapping[str, tuple[float, ...]]) -> Path:
    """A model of whole words, as model2vec saves it."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer, models, pre_tokenizers

    ids = {word: index for index, word in enumerate(["[UNK]", *rows])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    matrix = torch.tensor([(0.0,) * 3, *rows.values()]).numpy()
    StaticModel(vectors=matrix, tokenizer=tokenizer, normalize=True).save_pretrained(folder)
    return folder


def prepared_for(train: Path, **values: Any) -> Prepared:
    return prepare(Options(train=train, num_filters=4, ngrams="none", **values), make_console())


def row(prepared: Prepared, word: str, seed: int = 0) -> torch.Tensor:
    (token,) = prepared.tokenizer.encode([word], max_length=1)[0].input_ids
    return prepared.new_module(seed).embedding.weight.detach()[token]


@pytest.mark.parametrize("kind", ["txt", "vec", "txt.gz", "folder", "sentence-transformers"])
def test_rows_are_the_vectors_times_one_scale(train_csv: Path, tmp_path: Path, kind: str) -> None:
    if kind in ("folder", "sentence-transformers"):
        source = save_static(tmp_path / "static", WORDS)
        if kind == "sentence-transformers":
            rename_tensor(source)
    else:
        source = write(tmp_path / f"v.{kind.removesuffix('.gz')}", *(["5 3"] if kind == "vec" else []), *LINES)
        if kind == "txt.gz":
            source = tmp_path / "v.txt.gz"
            source.write_bytes(gzip.compress((tmp_path / "v.txt").read_bytes()))
    prepared, plain = (
        prepared_for(train_csv, vectors=str(source)),
        prepared_for(train_csv, embedding_dim=3, embedding_start="chance"),
    )
    assert prepared.config.embedding_dim == 3
    known = {"snow": "snow", "ice": "ice", "fire": "fire", "sun": "Sun"}
    given = torch.tensor([WORDS[name] for name in known.values()])
    scale = EMBEDDING_STD / given.square().mean().sqrt()
    rows = torch.stack([row(prepared, word) for word in known])
    assert torch.allclose(rows, given * scale, atol=1e-6)
    assert torch.equal(row(prepared, "warm"), row(plain, "warm")), "a word without a vector starts as it always did"
    assert prepared.new_module(0).embedding.weight[0].count_nonzero() == 0
    vocabulary = prepared.config.vocab_size - 2
    assert prepared.start.told["vectors"] == {"dim": 3, "share": 4 / vocabulary}


def rename_tensor(folder: Path) -> None:
    """The layout that sentence-transformers writes."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file({"embedding.weight": tensors["embeddings"]}, folder / "model.safetensors")
    (folder / "config.json").rename(folder / "config_sentence_transformers.json")


def test_the_spelling_as_it_stands_wins_and_the_first_of_two_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", "Snow 9 9 9", "snow 1 2 3", "snow 4 5 6", "Ice 1 0 0", ". . . 1 1 1")
    tokenizer = make_tokenizer()
    found = read_vectors(str(path), tokenizer)
    snow, ice = tokenizer.encode(["snow ice"], max_length=2)[0].input_ids
    assert torch.allclose(found.rows[snow] / found.rows[snow][0], torch.tensor([1.0, 2.0, 3.0]))
    assert found.rows[ice].count_nonzero() == 1
    assert found.has.sum() == 2


def test_the_start_of_a_word_is_no_letter_of_it(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(kind="subwords")
    assert read_vectors(str(write(tmp_path / "v.txt", "snow 1 2 3")), tokenizer).has.sum() == 1


def test_a_file_is_left_as_it_was(train_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No cache beside it, no bar on the screen, and the process still checks certificates."""
    (tmp_path / "words").mkdir()
    path = write(tmp_path / "words" / "v.txt", *LINES)
    prepared_for(train_csv, vectors=str(path))
    assert list(path.parent.iterdir()) == [path]
    assert ssl._create_default_https_context is not ssl._create_unverified_context
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["snow 1 2 3", "ice 1 2"], r"v.txt:2: the vector of 'ice' has 2 numbers, but line 1 has 3: correct or remove"),
        (["", "snow 1 2 3 4", "ice 1 2 3"], r"v.txt:3: the vector of 'ice' has 3 numbers, but line 2 has 4: correct"),
        (["2 4", "snow 1 2 3"], r"v.txt:2: the vector of 'snow' has 3 numbers, but line 1 promises 4: correct"),
        (["snow 1 2 3", "ice 1 two 3"], r"v.txt:2: the vector of 'ice' holds 'two', which is no number: correct"),
        (["snow 1 2 3", "ice 1 nan 3"], r"v.txt:2: the vector of 'ice' holds 'nan', but each number must be finite"),
        (["elsewhere 1 -inf 3"], r"v.txt:1: the vector of 'elsewhere' holds '-inf', but each"),
        (["snow 1 2 1e39"], r"v.txt:1: the vector of 'snow' holds '1e39', but each number must be finite"),
        (["snow 1 2 3", "\0" * 9], r"v.txt holds binary numbers: give the vectors as text, which word2vec writes"),
        (["snow\t1\t2\t3"], r"v.txt:1: 0 numbers a vector, but there must be 3 or more: write each line as a word"),
        (["5 3", "snow 1 2 3"], r"v.txt: the first line promises 5 vectors, but 1 follow: copy it again"),
        (["", " "], r"v.txt holds no vector: each line must be a word and its numbers"),
        (["5 3"], r"v.txt holds no vector: each line must be a word and its numbers"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_vector_file(write(tmp_path / "v.txt", *lines), {"snow"})


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "lines", [["", "2 3", "snow 1 2 3", "", "ice 1 0 2", ""], ["snow 1 2 3", " ", "ice 1 0 2", ""]]
)
def test_blank_lines_are_passed_over(tmp_path: Path, lines: list[str], end: str) -> None:
    (tmp_path / "v.txt").write_bytes(end.join(lines).encode())
    assert read_vector_file(tmp_path / "v.txt", {"snow", "ice"}).lines == {"snow": "snow 1 2 3", "ice": "ice 1 0 2"}


def test_binary_vectors_in_a_packed_file(tmp_path: Path) -> None:
    (tmp_path / "v.bin.gz").write_bytes(gzip.compress(b"2 3\nsnow " + torch.ones(3).numpy().tobytes()))
    with pytest.raises(DataError, match=r"v.bin.gz holds binary numbers: give the vectors as text"):
        read_vector_file(tmp_path / "v.bin.gz", set())


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "v.vec").write_bytes(b"snow 1 2 3\n\xff 1 2 3\n")
    with pytest.raises(DataError, match=r"v.vec:2: byte 1 of the line is 0xff, which is not UTF-8"):
        read_vector_file(tmp_path / "v.vec", set())


def test_refused_in_a_sentence(refused: Refused, train_csv: Path, tmp_path: Path) -> None:
    path, output = write(tmp_path / "v.txt", *LINES), tmp_path / "out"
    common = (*SMALL, "--train", train_csv, "--output", output)
    message = refused(run.main, *common, "--vectors", path, "--embedding-dim", 4)
    assert "--embedding-dim is 4, but the vectors of" in message
    assert "have 3 numbers: leave --embedding-dim out" in message
    assert "no such file or folder, and the names that can be given are charngram.100d" in refused(
        run.main, *common, "--vectors", tmp_path / "nowhere.vec"
    )
    (tmp_path / "empty").mkdir()
    message = refused(run.main, *common, "--vectors", tmp_path / "empty")
    assert "is not a folder of a static embedding model" in message
    assert not output.exists()


def test_a_name_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(_: str, into: str, **__: object) -> None:
        Path(into).touch()
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torchtext.vocab, "urlretrieve", no_network)
    monkeypatch.setattr(vectors, "CACHE", tmp_path)
    before = ssl._create_default_https_context
    with pytest.raises(DataError, match=r"glove.6B.100d cannot be downloaded into .*no network.*give the path of it"):
        read_vectors("glove.6B.100d", make_tokenizer())
    assert list(tmp_path.iterdir()) == [], "no half of a file is left to be taken for a whole one"
    assert ssl._create_default_https_context is before


def test_a_name_that_was_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vectors, "CACHE", tmp_path)
    folder = tmp_path / "glove.6B.50d"
    folder.mkdir()
    write(folder / "glove.6B.50d.txt", *(f"{word} {' '.join(['1.5'] * 50)}" for word in ("snow", "ice")))
    found = read_vectors("glove.6B.50d", make_tokenizer())
    assert (found.dim, int(found.has.sum())) == (50, 2)
    assert found.rows.max().item() == pytest.approx(EMBEDDING_STD)


def test_without_model2vec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(ConfigError, match=r"needs model2vec: pip install 'nlp_app\[vectors\]'"):
        read_vectors(str(tmp_path), make_tokenizer())


def test_a_static_vector_that_is_not_finite(tmp_path: Path) -> None:
    folder = save_static(tmp_path / "static", {"snow": (1, float("nan"), 1)})
    with pytest.raises(DataError, match="holds a vector that is not finite: give another"):
        read_vectors(str(folder), make_tokenizer())


@pytest.mark.parametrize(("lines", "warned"), [(["snow 1 2 3"], True), (LINES, False), (["elsewhere 1 2 3"], True)])
def test_few_words_with_vectors_are_warned_of(
    train_csv: Path, tmp_path: Path, lines: list[str], warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = prepared_for(train_csv, vectors=str(write(tmp_path / "v.txt", *lines)))
    screen = capsys.readouterr().out
    assert ("warning: " in screen) is warned
    assert f"{prepared.start.told['vectors']['share']:.1%}" in screen


def test_trains_and_tells(monkeypatch: pytest.MonkeyPatch, train_csv: Path, tmp_path: Path, refused: Refused) -> None:
    path, output = write(tmp_path / "v.txt", *LINES), tmp_path / "out"
    common = ("run", *map(str, SMALL), "--train", str(train_csv), "--output", str(output), "--vectors", str(path))
    monkeypatch.setattr(sys, "argv", list(common))
    assert run.main() == 0
    told = json.loads((output / "metrics.json").read_bytes())["start"]
    assert told["vectors"]["dim"] == 3
    assert 0 < told["vectors"]["share"] < 1
    assert told["unlabelled"] is None
    options = json.loads((output / "config.json").read_bytes())["trained"]["options"]
    assert options["vectors"] == "v.txt", "a name, not where it lies on this machine"


def test_the_fingerprint_has_the_digest_of_the_file_not_its_place(train_csv: Path, tmp_path: Path) -> None:
    first = write(tmp_path / "a.txt", *LINES)
    moved = write(tmp_path / "b.txt", *LINES)
    other = write(tmp_path / "c.txt", *LINES[:-1], "elsewhere 9 9 8")
    digests = [prepared_for(train_csv, vectors=str(path)).start.digests["vectors"] for path in (first, moved, other)]
    assert digests[0] == digests[1] != digests[2]
    assert Options(vectors=str(first)).fingerprint() == Options(vectors=str(moved)).fingerprint()


def test_a_run_is_not_resumed_with_other_vectors(
    monkeypatch: pytest.MonkeyPatch, train_csv: Path, tmp_path: Path, refused: Refused
) -> None:
    path, output = write(tmp_path / "v.txt", *LINES), tmp_path / "out"
    common = (*SMALL, "--train", train_csv, "--output", output, "--vectors", path)
    interrupt(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["run", *map(str, common)])
    with pytest.raises(KeyError):
        run.main()
    monkeypatch.undo()
    write(path, *LINES[:-1], "elsewhere 9 9 8")
    assert "--resume: vectors was" in refused(run.main, *common, "--resume")
    assert "--resume: vectors was" in refused(run.main, *common[:-2], "--resume")


def interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash once the state of the run is on disk."""

    def crash(*_: object) -> Callable[..., None]:
        raise KeyError("crash")

    monkeypatch.setattr(run, "train", crash)
