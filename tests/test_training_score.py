"""training.score on a real cluster of this machine: every row once, in order, whoever dies."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nlp_app import Predictor
from nlp_app.errors import DataError, OutputError
from tests.conftest import ROOT, TEXTS, Refused, command
from training import score
from training.score import RETRIES, Job, score_file, to_score

ROWS = 3000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files; texts and ids tell where they are from."""
    (tmp_path / "in").mkdir()
    for number in range(4):
        texts = [f"{TEXTS[row % 6]} {number} {row}" for row in range(ROWS)]
        ids = [number * ROWS + row for row in range(ROWS)]
        pq.write_table(pa.table({"id": ids, "text": texts}), tmp_path / "in" / f"{number}.parquet", row_group_size=700)
    return tmp_path / "in"


def job_of(checkpoint: Path, *columns: str, version: str = "1", top_k: int = 1) -> Job:
    return Job(checkpoint=str(checkpoint), version=version, text_columns=columns or ("text",), top_k=top_k)


def no_utf8() -> pa.Array:
    """A column of one text, whose only byte is of no text."""
    offsets, data = pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    return pa.Array.from_buffers(pa.string(), 1, [None, offsets, data])


def check_whole(folder: Path, checkpoint: Path) -> None:
    predictor = Predictor.load(checkpoint)
    assert sorted(path.name for path in folder.iterdir()) == [f"{number}.parquet" for number in range(4)]
    for number in range(4):
        table = pq.read_table(folder / f"{number}.parquet")
        assert table.column("id").to_pylist() == list(range(number * ROWS, (number + 1) * ROWS))
        answers = predictor.predict(table.column("text").to_pylist(), 2)
        assert table.column("label").to_pylist() == [one.label for one in answers]
        assert table.column("score").to_pylist() == pytest.approx([one.score for one in answers], abs=1e-6)
        assert [len(one) for one in table.column("scores").to_pylist()] == [2] * ROWS


DYING = """
import os, signal
from nlp_app.errors import run_command
from training import score
class Dying(score.Scorer):
    def __call__(self, task):
        score.TEXTS_PER_CHUNK = 700  # so that there is a middle
        if task["source"].endswith("2.parquet"):
            answer, calls = self._predictor.predict, []
            def predict(*given):
                calls.append(0)
                if len(calls) == 2 and not os.path.exists(os.environ["FLAG"]):
                    open(os.environ["FLAG"], "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
                return answer(*given)
            self._predictor.predict = predict
        return super().__call__(task)
score.Scorer = Dying
run_command(score.main)
"""


DYING_OF_ONE = """
import os, signal
from nlp_app.errors import run_command
from training import score
class Dying(score.Scorer):
    def __call__(self, task):
        if task["source"].endswith("2.parquet"):
            open(os.environ["FLAG"], "a").write("died\\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(task)
score.Scorer = Dying
run_command(score.main)
"""


def test_a_file_of_which_every_worker_dies_is_given_up_and_named(
    shared_checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    words = ["--checkpoint", shared_checkpoint, "--input", folder, "--output", tmp_path / "out", "--workers", 1]
    done = subprocess.run(
        [sys.executable, "-c", DYING_OF_ONE, *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=600, env={**os.environ, "FLAG": str(tmp_path / "flag")},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert (tmp_path / "flag").read_text().count("died") == RETRIES + 1
    assert (
        f"error: {folder}/2.parquet: no worker came to its end with it in {RETRIES + 1} tries; the other files are"
        in done.stderr
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.parquet", "1.parquet", "3.parquet"]


def test_a_worker_is_killed_and_every_row_is_scored_once(shared_checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    """In the middle of the third file."""
    output, flag = tmp_path / "out", tmp_path / "flag"
    words = ["--checkpoint", shared_checkpoint, "--input", folder, "--output", output, "--workers", 2, "--top-k", 2]
    done = subprocess.run(
        [sys.executable, "-c", DYING, *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=600, env={**os.environ, "FLAG": str(flag)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert flag.exists(), "it died"
    assert f"4 of 4 files, {4 * ROWS:,} rows" in done.stdout
    check_whole(output, shared_checkpoint)
    again = command("training.score", *words, "--resume")
    assert again.returncode == 0, again.stderr
    assert "files" not in again.stdout, "all were there"


def test_a_file_is_whole_or_not_there(shared_checkpoint: Path, tmp_path: Path) -> None:
    predictor, target = Predictor.load(shared_checkpoint), tmp_path / "out.parquet"
    job = job_of(shared_checkpoint, "subject", "body")
    pq.write_table(pa.table({"subject": ["ice", None], "body": ["and snow", "hot sun"]}), tmp_path / "a.parquet")
    assert score_file(predictor, job, tmp_path / "a.parquet", target) == 2
    expected = predictor.predict(["ice and snow", "hot sun"])
    assert pq.read_table(target).column("label").to_pylist() == [one.label for one in expected]
    pq.write_table(pa.table({"subject": pa.array([], pa.string()), "body": pa.array([], pa.string())}), tmp_path / "b")
    assert score_file(predictor, job, tmp_path / "b", target) == 0
    for content, message in (
        ({"text": ["x"]}, "has no column 'subject': its columns are 'text'"),
        ({"subject": ["x"], "body": ["y"], "score": [1]}, "has a column 'score' already"),
        ({"subject": ["x"], "body": [1]}, "the column 'body' must hold texts, and holds int64"),
        ({"subject": ["x"], "body": no_utf8()}, "the column 'body' has bytes that are no UTF-8"),
    ):
        pq.write_table(pa.table(content), tmp_path / "c.parquet")
        with pytest.raises(DataError, match=message):
            score_file(predictor, job, tmp_path / "c.parquet", tmp_path / "none.parquet")
    twice = pa.table([["x"], ["y"], ["z"]], names=["subject", "body", "body"])
    pq.write_table(twice, tmp_path / "c.parquet")
    with pytest.raises(DataError, match="has two columns 'body': rename one"):
        score_file(predictor, job, tmp_path / "c.parquet", tmp_path / "none.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="is no whole Parquet file"):
        score_file(predictor, job, tmp_path / "c.parquet", tmp_path / "none.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b", "c.parquet", "out.parquet"]


def test_the_columns_of_an_answer(shared_checkpoint: Path, tmp_path: Path) -> None:
    """As those of nlp_app.predict; a row without a text has none."""
    predictor, long = Predictor.load(shared_checkpoint), "ice and snow " * 9000
    texts = pa.array(["ice and snow", None, long, "zzz qqq"]).dictionary_encode()
    pq.write_table(pa.table({"text": texts, "id": [1, 2, 3, 4]}), tmp_path / "a.parquet")
    job = job_of(shared_checkpoint, top_k=2)
    assert score_file(predictor, job, tmp_path / "a.parquet", tmp_path / "out.parquet") == 4
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    expected = iter(predictor.predict(["ice and snow", long, "zzz qqq"], 2))
    added = ("label", "score", "scores", "truncated", "abstained", "out_of_scope")
    for row in rows:
        assert tuple(row) == ("text", "id", *added)
        answer = None if row["text"] is None else next(expected)
        for name in ("label", "truncated", "abstained", "out_of_scope"):
            assert row[name] == (None if answer is None else getattr(answer, name)), (row["id"], name)
    assert [row["truncated"] for row in rows] == [False, None, True, False]


def test_resume_knows_what_the_files_are_the_answer_to(shared_checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    predictor, job, output = Predictor.load(shared_checkpoint), job_of(shared_checkpoint), tmp_path / "out"
    files = sorted(folder.iterdir())
    output.mkdir()
    score_file(predictor, job, files[0], output / "0.parquet")
    (output / f".1.parquet.{'0' * 32}.partial").touch()
    (output / ".mine.partial").touch()
    assert list(to_score(files, output, job, resume=True, overwrite=False)) == [str(file) for file in files[1:]]
    assert sorted(path.name for path in output.iterdir()) == [".mine.partial", "0.parquet"]
    other = {
        "checkpoint was '1' when": job_of(shared_checkpoint, version="2"),
        "top_k was 1 when": job_of(shared_checkpoint, top_k=2),
        "text_columns was ": job_of(shared_checkpoint, "body"),
    }
    for message, asked in other.items():
        with pytest.raises(OutputError, match=f"--resume: {message}"):
            to_score(files, output, asked, resume=True, overwrite=False)
        assert len(to_score(files, output, asked, resume=False, overwrite=True)) == 4
    os.utime(files[0], ns=(0, 0))
    with pytest.raises(OutputError, match="--resume: source was"):
        to_score(files, output, job, resume=True, overwrite=False)
    for content in (files[1].read_bytes(), b"PAR1 no"):
        (output / "0.parquet").write_bytes(content)
        with pytest.raises(OutputError, match=r"was not written by training\.score"):
            to_score(files, output, job, resume=True, overwrite=False)


def test_what_is_refused(shared_checkpoint: Path, folder: Path, tmp_path: Path, refused: Refused) -> None:
    common = ("--checkpoint", shared_checkpoint, "--output", tmp_path / "out")
    assert "has no .parquet file: correct --input" in refused(score.main, *common, "--input", tmp_path / "none")
    assert "must be 1 or more" in refused(score.main, *common, "--input", folder, "--top-k", 0)
    nowhere = refused(score.main, *common, "--input", folder, "--address", "auto")
    assert "--address auto: no Ray cluster answers there (" in nowhere
    inside = ("--checkpoint", shared_checkpoint, "--input", folder, "--output", folder)
    assert "is where the files are read" in refused(score.main, *inside, "--overwrite")
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "2.parquet").touch()
    assert "has 2.parquet already: --resume leaves it" in refused(score.main, *common, "--input", folder)
    (folder / "deep").mkdir()
    (folder / "deep" / "1.parquet").touch()
    assert "has two files 1.parquet" in refused(score.main, *common, "--input", folder / "**" / "*.parquet")


def test_a_broken_file_is_named_when_the_others_are_done(shared_checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "1.parquet").write_bytes(b"PAR1 no")
    words = ("--checkpoint", shared_checkpoint, "--input", folder, "--output", tmp_path / "out", "--workers", 1)
    done = command("training.score", *words)
    assert done.returncode == 2
    assert f"error: {folder}/1.parquet is no whole Parquet file (" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.parquet", "2.parquet", "3.parquet"]
