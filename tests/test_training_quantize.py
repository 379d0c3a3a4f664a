"""`--quantize int8` and `python -m training.quantize`: the scores told are those of the weights that are stored."""

import json
import sys
from pathlib import Path

import pytest
import torch

from nlp_app import parts
from nlp_app.checkpoint import load_checkpoint
from nlp_app.quantize import round_weights
from tests.conftest import ROOT, Refused, write_checkpoint
from tests.test_training_run import SMALL
from training import quantize, run
from training.console import make_console
from training.options import parse_options
from training.prepare import prepare
from training.validate import validate


def test_the_scores_are_of_what_is_stored(tmp_path: Path, train_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [*map(str, SMALL), "--train", str(train_csv), "--refit", "never", "--output"]
    folders = {kind: tmp_path / kind for kind in ("float32", "int8")}
    losses = {}
    for (kind, folder), stored in zip(folders.items(), ("float32", "int8-packed"), strict=True):
        monkeypatch.setattr(sys, "argv", ["run", *given, str(folder), "--quantize", kind])
        assert run.main() == 0
        loaded = load_checkpoint(folder)
        losses[kind] = loaded.metrics["validation"]["loss"]
        validation = prepare(parse_options([*given, str(folder)]), make_console()).validation
        assert validate(loaded.module, validation)["loss"] == pytest.approx(losses[kind], rel=1e-6)
        assert json.loads((folder / parts.CONFIG).read_bytes())["weights"] == stored
    assert losses["int8"] != pytest.approx(losses["float32"], rel=1e-6)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint `large`, made smaller."""
    output = tmp_path / "small"
    folder = write_checkpoint(tmp_path / "large")
    monkeypatch.setattr(sys, "argv", ["quantize", str(folder), "--output", str(output)])
    assert quantize.main() == 0
    return output


def test_a_checkpoint_can_be_made_smaller_afterwards(small: Path) -> None:
    size = (small / parts.MODEL).stat().st_size
    loaded, before = load_checkpoint(small), load_checkpoint(small.parent / "large")
    assert loaded.metrics["test"] is None, "what was measured was another model"
    assert loaded.metrics["model"] == {"parameters": 1, "bytes": size, "version": loaded.version}
    round_weights(before.module)
    for name, tensor in before.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor), name
    assert sorted(path.name for path in small.parent.iterdir()) == ["large", "small"]


@pytest.mark.parametrize("name", ["large", "small"])
def test_a_checkpoint_may_take_its_own_place(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    version, place = load_checkpoint(small).version, small.parent / name
    before, after = ((folder / parts.MODEL).stat().st_size for folder in (place, small))
    monkeypatch.setattr(sys, "argv", ["quantize", str(place), "--output", str(place), "--overwrite"])
    assert quantize.main() == 0
    assert load_checkpoint(place).version == version, "what is rounded is rounded to itself"
    assert f"the weights take {after:,} bytes in {place}, where they took {before:,}" in capsys.readouterr().out


def test_refuses_what_it_would_overwrite_and_what_is_no_checkpoint(small: Path, refused: Refused) -> None:
    message = refused(quantize.main, small.parent / "large", "--output", small)
    assert "exists: name another folder, or replace it with --overwrite" in message
    message = refused(quantize.main, ROOT / "docs", "--output", small.parent / "new")
    assert "has no manifest.json, which every checkpoint has" in message
    message = refused(quantize.main, small, "--output", small / "smaller")
    assert f"--output {small / 'smaller'} lies in the checkpoint {small}: name a place outside of it" in message
    assert not (small.parent / "new").exists()
