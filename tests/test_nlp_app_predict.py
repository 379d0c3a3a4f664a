import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nlp_app import Predictor, predict
from nlp_app.errors import EXIT_CODE
from tests.conftest import ROOT, Refused, command

TEXTS = ["ice and snow", "", "the sun, hot", "warm 中文"]


def run(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], *arguments: object
) -> list[dict[str, object]]:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    assert predict.main() == 0
    return [json.loads(line) for line in capsysbinary.readouterr().out.decode().splitlines()]


def expected(checkpoint: Path, top_k: int = 1) -> list[dict[str, object]]:
    predictions = Predictor.load(checkpoint).predict(TEXTS, top_k)
    return [{"text": text, **prediction.to_json()} for text, prediction in zip(TEXTS, predictions, strict=True)]


def test_labels_a_pipe_line_by_line(
    shared_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    piped = io.TextIOWrapper(io.BytesIO("".join(f"{text}\n" for text in TEXTS).encode()))
    monkeypatch.setattr(sys, "stdin", piped)
    assert run(monkeypatch, capsysbinary, "--checkpoint", shared_checkpoint, "-") == expected(shared_checkpoint)


def test_labels_a_table_by_its_text_column(
    shared_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    path = tmp_path / "mails.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS))
    monkeypatch.setattr(predict, "TEXTS_PER_CHUNK", 3)
    arguments = ("--checkpoint", shared_checkpoint, "--text-column", "body", "--top-k", 2, path)
    assert run(monkeypatch, capsysbinary, *arguments) == expected(shared_checkpoint, top_k=2)


def test_explains_where_it_is_asked_to(
    shared_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS))
    predictions = Predictor.load(shared_checkpoint).predict(TEXTS, explain=True)
    lines = run(monkeypatch, capsysbinary, "--checkpoint", shared_checkpoint, "--explain", path)
    assert lines == [{"text": text, **one.to_json()} for text, one in zip(TEXTS, predictions, strict=True)]
    assert all("explanation" in line for line in lines)


def test_runs_as_a_command(shared_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS))
    done = command("nlp_app.predict", "--checkpoint", shared_checkpoint, path)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == TEXTS
    assert done.stderr == ""


def test_a_reader_that_goes_away_is_no_error(shared_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("ice and snow\n" * 20_000)
    program = [sys.executable, "-m", "nlp_app.predict", "--checkpoint", str(shared_checkpoint), str(path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("body\nx\n", "mails.csv has no column 'text': its columns are 'body'"),
        ("", "mails.csv is empty"),
        ("text\n\"x\n", "mails.csv:2: a quote is opened"),
    ],
)  # fmt: skip
def test_refuses_broken_files(
    shared_checkpoint: Path, tmp_path: Path, refused: Refused, content: str, message: str
) -> None:
    path = tmp_path / "mails.csv"
    path.write_text(content)
    assert message in refused(predict.main, "--checkpoint", shared_checkpoint, path)


def test_refuses_what_is_not_there(shared_checkpoint: Path, tmp_path: Path, refused: Refused) -> None:
    assert "there is no checkpoint folder" in refused(predict.main, "--checkpoint", tmp_path / "absent", "-")
    assert "there is no file" in refused(predict.main, "--checkpoint", shared_checkpoint, tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("redirections", "message"),
    [
        (">/dev/full", "error: 'standard output' cannot be used: No space left on device"),
        ("<&-", "error: standard input is closed"),
    ],
)
def test_odd_streams_give_one_sentence(shared_checkpoint: Path, redirections: str, message: str) -> None:
    done = in_shell(f"{redirections} --checkpoint {shared_checkpoint} -")
    assert (done.returncode, done.stderr.count("\n")) == (EXIT_CODE, 1), done.stderr
    assert message in done.stderr


def test_a_closed_standard_output_is_nowhere(shared_checkpoint: Path) -> None:
    done = in_shell(f">&- --checkpoint {shared_checkpoint} -")
    assert (done.returncode, done.stderr) == (0, "")


def in_shell(rest: str) -> subprocess.CompletedProcess[str]:
    program = f"printf 'snow\\n' | {shlex.quote(sys.executable)} -m nlp_app.predict {rest}"
    return subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)


def test_refuses_options_that_break_a_rule(shared_checkpoint: Path, tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("snow\n")
    assert "--top-k is 0" in refused(predict.main, "--checkpoint", shared_checkpoint, "--top-k", 0, path)
    assert "--device is 'nonsense'" in refused(
        predict.main, "--checkpoint", shared_checkpoint, "--device", "nonsense", path
    )
