"""docs/notes-measured.md is what the figures beside it say, and gives every sentence a verdict."""

import json

import pytest
import torch

from benchmarks import checkpointing, notes, sharding
from benchmarks.common import make_batch, make_module
from nlp_app.errors import DataError
from tests.conftest import Refused
from training.measure import peak_bytes

CPU = torch.device("cpu")


def test_the_pages_are_what_the_figures_say() -> None:
    figures = json.loads((notes.DOCS / "measured" / "notes.json").read_text())
    assert notes.render(figures, notes.studies()) == (notes.DOCS / "notes-measured.md").read_text()
    of_gpu = json.loads((notes.DOCS / "measured" / "notes-cuda.json").read_text())
    assert notes.render(of_gpu, {}) == (notes.DOCS / "notes-measured-cuda.md").read_text()


@pytest.mark.parametrize("claim", notes.CLAIMS, ids=lambda claim: claim.title)
def test_every_sentence_has_a_verdict(claim: notes.Claim) -> None:
    page = (notes.DOCS / "notes-measured.md").read_text()
    section = page.partition(f"## {claim.title}\n")[2].partition("\n## ")[0]
    assert f"> {claim.sentence}" in section
    assert "**Verdict: holds" in section or "**Verdict: does not hold" in section
    for plot, _ in claim.plots:
        assert f"(measured/{plot})" in section
        assert (notes.DOCS / "measured" / plot).stat().st_size > 5000


def test_the_bars_are_kept() -> None:
    """What the figures on the page say of memory and time."""
    figures = json.loads((notes.DOCS / "measured" / "notes.json").read_text())["figures"]
    (deep,) = (row for row in figures["Gradient checkpoints"]["rows"] if (row["blocks"], row["segment"]) == (16, 2))
    assert deep["memory"] <= 0.45
    assert deep["time"] <= 1.4
    parts = {row["mode"]: row for row in figures["Sharding"]["rows"] if row["blocks"] == 1}
    assert parts["fast"]["memory"] <= 0.25
    assert parts["exact"]["memory"] <= 0.25
    assert parts["exact"]["time"] <= 2


def test_the_bar_of_the_loop_is_kept() -> None:
    figures = json.loads((notes.DOCS / "measured" / "notes.json").read_text())["figures"]
    assert {row["set"]: row["ratio"] >= 0.9 for row in figures[notes.LOOP]["rows"]} == {"imdb": True, "banking77": True}


def test_gradient_checkpointing_keeps_its_bar_on_memory_here_too() -> None:
    """Peaks of live bytes, unlike times, are the same on any machine."""
    plain, recomputed = (
        peak_bytes(checkpointing.make_work(CPU, 16, segment, texts=16, tokens=64), CPU) for segment in (None, 2)
    )
    assert recomputed <= 0.45 * plain


def test_sharding_by_8_keeps_its_bar_on_memory_here_too() -> None:
    """On the default model, with texts of its maximum length."""
    module, batch = make_module(CPU), make_batch(CPU)
    whole, *parts = (peak_bytes(sharding.make_work(module, batch, mode), CPU) for mode in ("whole", "fast", "exact"))
    assert max(parts) <= 0.25 * whole


def test_a_missing_study_is_named_with_its_command(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "DOCS", tmp_path)
    with pytest.raises(
        DataError, match=r"compare.json: make it with python -m training.compare --output docs/measured"
    ):
        notes.studies()


def test_without_the_data_sets_it_says_so_before_it_measures(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NLP_APP_DATA", raising=False)
    assert "set NLP_APP_DATA to a folder with imdb and banking77" in refused(notes.main)


def test_figures_measured_anew_take_the_places_of_the_old_ones() -> None:
    old = {"device": "CPU", "seconds": 159.0, "figures": {"Modules": 1, "Memory": 2}}
    new = {"device": "CPU", "seconds": 9.0, "figures": {"Memory": 3, "Precision": 4}}
    joined = notes.joined(old, new)
    assert joined == {"device": "CPU", "seconds": None, "figures": {"Modules": 1, "Memory": 3, "Precision": 4}}
    with pytest.raises(DataError, match="the figures are of CPU, not of GPU: measure all, without --only"):
        notes.joined(old, {**new, "device": "GPU"})


def test_the_page_tells_whether_one_run_made_it() -> None:
    figures = json.loads((notes.DOCS / "measured" / "notes.json").read_text())
    assert "measured it in 99 s on CPU" in notes.render({**figures, "seconds": 99.0}, notes.studies())
    assert "measured it in several runs on CPU" in notes.render({**figures, "seconds": None}, notes.studies())


def test_a_claim_without_figures_is_told_with_its_command() -> None:
    figures = json.loads((notes.DOCS / "measured" / "notes.json").read_text())
    without = {title: found for title, found in figures["figures"].items() if title not in ("Memory", notes.LOOP)}
    page = notes.render({**figures, "figures": without}, notes.studies())
    for title in ("Memory", notes.LOOP):
        section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
        assert f'Not measured yet: `python -m benchmarks.notes --only "{title}"`.' in section
