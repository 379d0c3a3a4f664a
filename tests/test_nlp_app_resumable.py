"""python -m nlp_app.predict --output: in order, whole or not there, and the same bytes however often it was stopped."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nlp_app import predict, resumable
from nlp_app.errors import OutputError
from nlp_app.resumable import Lines
from tests.conftest import ROOT, Refused, command, write_csv
from tests.conftest import TEXTS as SOME

ROWS = [(f"{SOME[number % 6]} {number}", str(number)) for number in range(23)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "corpus.csv", ROWS, ("text", "id"))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "TEXTS_PER_CHUNK", 5)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    assert predict.main() == 0


def test_ids_are_kept_in_order_over_several_files(
    shared_checkpoint: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_csv(tmp_path / "other.csv", [("one more", "x")], ("text", "id"))
    run(monkeypatch, "--checkpoint", shared_checkpoint, corpus, other, "--keep", "id", "--output", tmp_path / "a.jsonl")
    answers = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [(one["text"], one["id"]) for one in answers] == [*ROWS, ("one more", "x")]
    assert all(one["label"] in ("cold", "warm", "hot") for one in answers)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "corpus.csv", "other.csv"]


def test_stopped_at_any_byte_it_ends_with_the_same_bytes(
    shared_checkpoint: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--checkpoint", shared_checkpoint, corpus, "--keep", "id")
    run(monkeypatch, *common, "--output", tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    told: list[bytes] = []
    monkeypatch.setattr(resumable, "check_same", lambda *_: None)
    for cut in range(0, len(whole), 97):
        (tmp_path / "a.jsonl.part").write_bytes(whole[:cut])
        (tmp_path / "a.jsonl.part.json").write_text("{}")
        run(monkeypatch, *common, "--output", tmp_path / "a.jsonl", "--resume", "--overwrite")
        told.append((tmp_path / "a.jsonl").read_bytes())
    assert set(told) == {whole}
    assert len(told) > 20


def test_what_was_whole_is_not_asked_again(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"1\n2\n3\n4\n5")
    (tmp_path / "a.part.json").write_text("{}")
    with Lines(tmp_path / "a", asked={}, at_once=2, resume=True, overwrite=False) as lines:
        assert lines.done == 4
        lines.write([b"x\n"])
    assert (tmp_path / "a").read_bytes() == b"1\n2\n3\n4\nx\n"


KILLED = """
import os, signal, sys
from nlp_app import predict
from nlp_app.errors import run_command
from nlp_app.resumable import Lines
predict.TEXTS_PER_CHUNK = 5
write = Lines.write
def then_die(self, lines):
    write(self, lines)
    if self._part.stat().st_size > 2000:
        os.kill(os.getpid(), signal.SIGKILL)
Lines.write = then_die
run_command(predict.main)
"""


def test_a_killed_run_goes_on(
    shared_checkpoint: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    common = ["--checkpoint", str(shared_checkpoint), str(corpus), "--output"]
    run(monkeypatch, *common, tmp_path / "whole.jsonl")
    killed = subprocess.run([sys.executable, "-c", KILLED, *common, str(tmp_path / "a.jsonl")], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.jsonl").exists()
    part = (tmp_path / "a.jsonl.part").read_bytes()
    assert 0 < len(part) < (tmp_path / "whole.jsonl").stat().st_size
    again = [*common, tmp_path / "a.jsonl"]
    assert "is of a run that was stopped: go on with --resume" in refused(predict.main, *again)
    assert "--resume: top_k was 1 when" in refused(predict.main, *again, "--resume", "--top-k", 2)
    os.utime(corpus, (1, 1))
    assert "--resume: files was" in refused(predict.main, *again, "--resume")
    assert (tmp_path / "a.jsonl.part").read_bytes() == part
    run(monkeypatch, *again, "--overwrite")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_full_disk_keeps_what_is_whole(tmp_path: Path) -> None:
    """The size of files stands for that of the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    lines = Lines(tmp_path / "a", asked={}, at_once=1, resume=False, overwrite=False)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with lines:
            for _ in range(3):
                lines.write([b"x" * 29 + b"\n"])
            with pytest.raises(OutputError, match=r"a.part cannot be written: File too large; what is whole stays"):
                lines.write([b"x" * 29 + b"\n"])
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    with Lines(tmp_path / "a", asked={}, at_once=1, resume=True, overwrite=False) as lines:
        assert lines.done == 3


def test_two_runs_write_no_file_together(tmp_path: Path) -> None:
    def lines(*, resume: bool = False) -> Lines:
        return Lines(tmp_path / "a", asked={}, at_once=1, resume=resume, overwrite=True)

    with lines() as first:
        first.write([b"1\n"])
        for resume in (True, False):
            with pytest.raises(OutputError, match="another run writes"):
                lines(resume=resume)
        first.write([b"2\n"])
    assert (tmp_path / "a").read_bytes() == b"1\n2\n"


def test_a_part_of_a_stranger_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_text("a download")
    with pytest.raises(OutputError, match=r"a\.part is none of this program's files: move it"):
        Lines(tmp_path / "a", asked={}, at_once=1, resume=False, overwrite=True)
    assert (tmp_path / "a.part").read_text() == "a download"
    (tmp_path / "a.part").unlink()
    for content in ('{"text": "x"}', "null", "no JSON"):
        (tmp_path / "a.part.json").write_text(content)
        with pytest.raises(OutputError, match=r"a\.part\.json is none of this program's files"):
            Lines(tmp_path / "a", asked={"top_k": 1}, at_once=1, resume=True, overwrite=True)
        assert (tmp_path / "a.part.json").read_text() == content


def test_what_is_refused(shared_checkpoint: Path, corpus: Path, tmp_path: Path, refused: Refused) -> None:
    common, output = ("--checkpoint", shared_checkpoint), tmp_path / "a.jsonl"
    assert "--resume and --overwrite are of --output" in refused(predict.main, *common, corpus, "--resume")
    assert "which a pipe cannot" in refused(predict.main, *common, "-", "--output", output)
    assert "--keep label would stand where" in refused(predict.main, *common, corpus, "--keep", "label")
    assert "has no column 'no'" in refused(predict.main, *common, corpus, "--keep", "no", "--output", output)
    assert "there is no file" in refused(predict.main, *common, tmp_path / "none.csv", "--output", output)
    (tmp_path / "lines.txt").write_text("x\n")
    assert "so it has no column 'id'" in refused(predict.main, *common, tmp_path / "lines.txt", "--keep", "id")
    assert "--encoding is 'x'" in refused(predict.main, *common, corpus, "--encoding", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.csv", "lines.txt"], "no part of nothing"
    assert "is a file that is read" in refused(predict.main, *common, corpus, "--output", corpus, "--overwrite")
    beside = tmp_path / "b.part.json"
    beside.write_text('{"text": "x"}')
    assert "b.part.json is a file that is read" in refused(predict.main, *common, beside, "--output", tmp_path / "b")
    beside.unlink()
    assert "is no file: name one" in refused(predict.main, *common, corpus, "--output", "/dev/null", "--overwrite")
    assert "--keep truncated would" in refused(predict.main, *common, corpus, "--keep", "truncated")
    output.touch()
    assert "exists: name another file, or replace it" in refused(predict.main, *common, corpus, "--output", output)


def test_another_encoding(shared_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("снег и лёд\n".encode("cp1251"))
    done = command("nlp_app.predict", "--checkpoint", shared_checkpoint, tmp_path / "a.txt", "--encoding", "cp1251")
    assert json.loads(done.stdout)["text"] == "снег и лёд"
