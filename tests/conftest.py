"""What several tests need: a small trained checkpoint, a file of texts, and a way to run a command line."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from nlp_app.checkpoint import Checkpoint, save_checkpoint
from nlp_app.config import ModelConfig
from nlp_app.model import TextClassifier
from nlp_app.predictor import Predictor
from nlp_app.tokenizer import Tokenizer

settings.register_profile("no deadline", deadline=None)  # no test times anything
settings.load_profile("no deadline")

LABELS = ("cold", "warm", "hot")
TEXTS = [
    "ice and snow fall on the cold hill",
    "the snow is cold as ice today",
    "a warm wind and a warm room",
    "tea is warm in the warm room",
    "hot fire and hot sun burn",
    "the sun is hot as fire today",
]
ROW_LABELS = ["cold", "cold", "warm", "warm", "hot", "hot"]
ROOT = Path(__file__).parent.parent


def make_tokenizer(texts: Iterable[str] = TEXTS, kind: str = "words") -> Tokenizer:
    return Tokenizer.train(texts, kind=kind, vocab_size=1000, min_frequency=1)


def make_module(tokenizer: Tokenizer, *, labels: tuple[str, ...] = LABELS, **values: object) -> TextClassifier:
    """A small module with weights that differ from each other and buffers that a few training steps moved."""
    settings: dict[str, object] = {"embedding_dim": 8, "num_filters": 4, "kernel_sizes": (1, 2, 3), "max_length": 32}
    config = ModelConfig(labels=labels, vocab_size=tokenizer.vocab_size, **(settings | values))  # type: ignore[arg-type]
    torch.manual_seed(0)
    module = TextClassifier(config=config)
    module.train()
    for _ in range(5):
        module(torch.from_numpy(tokenizer.encode_batch(TEXTS, max_length=config.max_length)))
    return module.eval()


METRICS = {"validation": {"accuracy": 0.5}, "model": {"parameters": 1}}


def write_checkpoint(folder: Path, **values: object) -> Path:
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer()
    module = make_module(tokenizer, **values)  # type: ignore[arg-type]
    save_checkpoint(folder, module=module, tokenizer=tokenizer, trained={"options": {}}, metrics=METRICS)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of its own for each test, to break."""
    return write_checkpoint(tmp_path / "models" / "weather")


@pytest.fixture(scope="session")
def shared_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that no test changes."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "weather")


def module_of(predictor: Predictor) -> TextClassifier:
    """What computes the logits, where that is torch."""
    checkpoint = predictor.checkpoint
    assert isinstance(checkpoint, Checkpoint)
    return checkpoint.module


def write_csv(path: Path, rows: Iterable[Sequence[str]], header: Sequence[str] = ("text", "label")) -> Path:
    path.write_text("".join(f"{','.join(row)}\n" for row in (header, *rows)), encoding="utf-8")
    return path


@pytest.fixture
def train_csv(tmp_path: Path) -> Path:
    """Thirty labelled texts."""
    rows = [(f"{text} {number}", label) for number in range(5) for text, label in zip(TEXTS, ROW_LABELS, strict=True)]
    return write_csv(tmp_path / "train.csv", rows)


def command(module: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command line in this process, check that it exits with 2 and one sentence, and give that sentence."""
    from nlp_app.errors import EXIT_CODE, run_command

    def run(main: Callable[[], int], *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            run_command(main)
        error = capsys.readouterr().err
        assert exit_info.value.code == EXIT_CODE, error
        assert error.startswith("error: ")
        assert error.count("\n") == 1, f"one line, not {error!r}"
        return error

    return run
