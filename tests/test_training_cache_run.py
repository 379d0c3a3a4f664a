import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from nlp_app import Predictor
from tests.conftest import ROOT, TEXTS, Refused, command, write_csv
from tests.test_training_run import SMALL, metrics, names, weights
from training import cache_texts, cache_tokens, prepare, run
from training.options import Options
from training.sources import find_sources


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_texts, "ROWS", 7)
    monkeypatch.setattr(cache_tokens, "cores", lambda: 1)


@pytest.fixture
def train_main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """`python -m training.run` in this process, with a cache of its own."""

    def call(*arguments: object) -> int:
        words = map(str, (*SMALL, "--cache-dir", tmp_path / "cache", *arguments))
        monkeypatch.setattr(sys, "argv", ["run", *words])
        return run.main()

    return call


def several_jsonl(path: Path) -> Path:
    labels: list[list[str]] = [["cold"], ["cold", "snow"], ["warm"], [], ["hot"], ["hot", "warm"]]
    rows = [{"text": f"{TEXTS[row % 6]} {row}", "labels": labels[row % 6]} for row in range(36)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def same_models(one: Path, other: Path) -> None:
    assert names(one) == names(other)
    for path in one.iterdir():
        if path.name not in ("metrics.json", "manifest.json"):
            assert path.read_bytes() == (other / path.name).read_bytes(), path.name
    assert metrics(one)["validation"] == metrics(other)["validation"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--refit", "never", "--sampling", "balanced", "--ngram-every", 2),
        ("--refit", "always", "--class-weights", "balanced", "--tokenizer", "subwords"),
    ],
    ids=["defaults", "sampled", "refit"],
)
def test_a_model_from_the_cache_is_the_one_from_memory_to_the_bit(
    train_main: Callable[..., int], train_csv: Path, tmp_path: Path, arguments: tuple[object, ...]
) -> None:
    for cache in ("never", "always"):
        train_main("--train", train_csv, "--output", tmp_path / cache, "--cache", cache, *arguments)
    same_models(tmp_path / "never", tmp_path / "always")
    assert metrics(tmp_path / "never")["sampled"] is None
    found = metrics(tmp_path / "always")["sampled"]
    assert (found["texts"], found["tokenizer_texts"], found["vector_texts"]) == (30, 24, 24)
    assert found["ngram_texts"] == (12 if "--ngram-every" in arguments else 24)
    assert Predictor.load(tmp_path / "always").predict(["snow and ice"])[0].label in ("cold", "warm", "hot")


def test_the_same_of_several_labels(train_main: Callable[..., int], tmp_path: Path) -> None:
    path = several_jsonl(tmp_path / "train.jsonl")
    for cache in ("never", "always"):
        train_main("--train", path, "--output", tmp_path / cache, "--cache", cache)
    same_models(tmp_path / "never", tmp_path / "always")


def test_the_users_validation_file_is_read_as_ever(
    train_main: Callable[..., int], train_csv: Path, tmp_path: Path
) -> None:
    validation = write_csv(tmp_path / "validation.csv", [("snow", "cold"), ("sun", "hot")])
    for cache in ("never", "always"):
        train_main("--train", train_csv, "--validation", validation, "--output", tmp_path / cache, "--cache", cache)
    same_models(tmp_path / "never", tmp_path / "always")
    assert metrics(tmp_path / "always")["sampled"]["tokenizer_texts"] == 30


def test_many_characters_are_kept_on_disk_and_few_are_not(
    train_main: Callable[..., int], train_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train_main("--train", train_csv, "--output", tmp_path / "few")
    assert not (tmp_path / "cache").exists()
    assert "cache" not in capsys.readouterr().out
    monkeypatch.setattr(prepare, "CHARACTERS_IN_MEMORY", 500)
    train_main("--train", train_csv, "--output", tmp_path / "many")
    screen = capsys.readouterr().out
    assert "has more than 150,000 texts, or 500 characters: they are kept on disk" in screen
    assert "reading" in screen
    assert "of 24 training texts the tokenizer has seen 24, drawn by chance; n-grams are fitted to 24" in screen
    same_models(tmp_path / "few", tmp_path / "many")
    train_main("--train", train_csv, "--output", tmp_path / "never", "--cache", "never")
    assert "cache" not in capsys.readouterr().out


def test_a_teacher_keeps_texts_in_memory(train_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "CHARACTERS_IN_MEMORY", 1)
    sources, console = find_sources(train_csv), Console(quiet=True)
    assert prepare.is_large(Options(train=train_csv), sources, console)
    assert not prepare.is_large(Options(train=train_csv, teacher="folder"), sources, console)


def test_the_folder_is_the_users_or_the_one_for_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    from training.large import cache_folder

    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder(Path("mine")) == Path("mine")
    assert cache_folder(None) == Path("/x/nlp_app")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder(None) == Path.home() / ".cache" / "nlp_app"


def test_the_tokenizer_is_trained_on_a_sample_of_many_texts(
    train_main: Callable[..., int], train_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.large.TOKENIZER_TEXTS", 10)
    monkeypatch.setattr("training.cached_rows.NGRAM_TEXTS", 12)
    for output in ("one", "two"):
        train_main("--train", train_csv, "--output", tmp_path / output, "--cache", "always")
    found = metrics(tmp_path / "one")["sampled"]
    assert (found["tokenizer_texts"], found["ngram_texts"], found["texts"]) == (10, 12, 30)
    same_models(tmp_path / "one", tmp_path / "two")


def test_refusals(refused: Refused, train_csv: Path, tmp_path: Path) -> None:
    common = (*SMALL, "--cache", "always", "--cache-dir", tmp_path / "cache", "--output", tmp_path / "out")
    message = refused(run.main, *common, "--train", train_csv, "--teacher", train_csv)
    assert "--teacher scores texts in memory, but these are kept on disk: leave it out, or --cache never" in message
    assert "there is no file" in refused(run.main, *common, "--train", tmp_path / "none.csv")
    one = write_csv(tmp_path / "one.csv", [("x", "a"), ("y", "a")])
    assert "every row has the label 'a'" in refused(run.main, *common, "--train", one)
    single = write_csv(tmp_path / "single.csv", [("x", "a"), ("y", "b")])
    assert "every text is the only one of a label" in refused(run.main, *common, "--train", single)
    inside = tmp_path / "out" / "cache"
    message = refused(run.main, *common, "--train", train_csv, "--cache-dir", inside)
    assert "lies in --output" in message
    (tmp_path / "file").touch()
    message = refused(run.main, *common, "--train", train_csv, "--cache-dir", tmp_path / "file")
    assert "cannot be written: Not a directory; name another with --cache-dir" in message


DATA = ["--train", str(ROOT / "training" / "sample" / "test.csv"), "--cache", "always", "--epochs", "1"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = command("training.run", *SMALL, *DATA, "--cache-dir", folder / "cache", "--output", folder / "model")
    assert done.returncode == 0, done.stderr
    return weights(folder / "model")


@pytest.mark.parametrize("harm", ["reading", "tokenising", "training"])
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(unbroken: bytes, tmp_path: Path, harm: str) -> None:
    """SIGKILL in a process of its own, in each of the stages; only after the last one there is a state to resume."""
    dying: dict[str, str] = {
        "reading": "record = cache_texts.record; cache_texts.record = lambda *a: (record(*a), die(a[1]['name'][6:11]))",
        "tokenising": "record = cache_tokens.record; cache_tokens.record = lambda *a: (record(*a), die('00001'))",
        "training": "step = learner.Learner._take_step\n"
        "learner.Learner._take_step = lambda self, *a: (die('00001' if self.step == 9 else ''), step(self, *a))[1]",
    }
    program = (
        "import os, signal\nfrom training import cache_texts, cache_tokens, learner, run\ncache_texts.ROWS = 50\n"
        f"def die(at):\n    if at == '00001': os.kill(os.getpid(), signal.SIGKILL)\n{dying[harm]}\nrun.main()"
    )
    arguments = [*map(str, SMALL), *DATA]
    mine = ["--cache-dir", str(tmp_path / "cache"), "--output", str(tmp_path / "broken")]
    died = subprocess.run(
        [sys.executable, "-c", program, *arguments, *mine], cwd=ROOT, capture_output=True, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    again = command("training.run", *arguments, *mine, *(["--resume"] if harm == "training" else []))
    assert again.returncode == 0, again.stderr
    told = {"reading": "100 texts were read before", "tokenising": "1 of 11 tables were tokenised before"}
    assert told.get(harm, "texts are in the cache in") in again.stdout
    assert weights(tmp_path / "broken") == unbroken
