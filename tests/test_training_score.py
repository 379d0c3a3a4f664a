"""training.score on a real cluster of this machine: every row once, in order, whoever dies."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nlp_app import Predictor
from nlp_app.errors import DataError
from tests.conftest import ROOT, TEXTS, Refused, command
from training import score
from training.score import Job, score_file

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
    for torn in output.glob(".*.partial"):  # of the one that was killed
        torn.unlink()
    check_whole(output, shared_checkpoint)
    again = command("training.score", *words, "--resume")
    assert again.returncode == 0, again.stderr
    assert "files" not in again.stdout, "all were there"


def test_a_file_is_whole_or_not_there(shared_checkpoint: Path, tmp_path: Path) -> None:
    predictor, target = Predictor.load(shared_checkpoint), tmp_path / "out.parquet"
    job = Job(checkpoint=str(shared_checkpoint), text_columns=("subject", "body"), top_k=1)
    pq.write_table(pa.table({"subject": ["ice", None], "body": ["and snow", "hot sun"]}), tmp_path / "a.parquet")
    assert score_file(predictor, job, tmp_path / "a.parquet", target) == 2
    expected = predictor.predict(["ice and snow", "hot sun"])
    assert pq.read_table(target).column("label").to_pylist() == [one.label for one in expected]
    pq.write_table(pa.table({"subject": pa.array([], pa.string()), "body": pa.array([], pa.string())}), tmp_path / "b")
    assert score_file(predictor, job, tmp_path / "b", target) == 0
    for content, message in (
        ({"text": ["x"]}, "has no column 'subject': its columns are 'text'"),
        ({"subject": ["x"], "body": ["y"], "score": [1]}, "has a column 'score' already"),
        ({"subject": ["x"], "body": [1]}, "subject, body must hold texts"),
    ):
        pq.write_table(pa.table(content), tmp_path / "c.parquet")
        with pytest.raises(DataError, match=message):
            score_file(predictor, job, tmp_path / "c.parquet", tmp_path / "none.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="is no whole Parquet file"):
        score_file(predictor, job, tmp_path / "c.parquet", tmp_path / "none.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b", "c.parquet", "out.parquet"]


def test_what_is_refused(shared_checkpoint: Path, folder: Path, tmp_path: Path, refused: Refused) -> None:
    common = ("--checkpoint", shared_checkpoint, "--output", tmp_path / "out")
    assert "has no .parquet file: correct --input" in refused(score.main, *common, "--input", tmp_path / "none")
    assert "must be 1 or more" in refused(score.main, *common, "--input", folder, "--top-k", 0)
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
