"""docs/notes-measured.md is what the figures beside it say, and gives every sentence a verdict."""

import json

import pytest

from benchmarks import notes
from nlp_app.errors import DataError
from tests.conftest import Refused


def test_the_page_is_what_the_figures_say() -> None:
    figures = json.loads((notes.DOCS / "measured" / "notes.json").read_text())
    assert notes.render(figures, notes.studies()) == (notes.DOCS / "notes-measured.md").read_text()


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
    """What the figures on the page say of memory, time and the loop."""
    figures = json.loads((notes.DOCS / "measured" / "notes.json").read_text())["figures"]
    (deep,) = (row for row in figures["Gradient checkpoints"]["rows"] if (row["blocks"], row["segment"]) == (16, 2))
    assert deep["memory"] <= 0.45
    assert deep["time"] <= 1.4
    parts = {row["mode"]: row for row in figures["Sharding"]["rows"] if row["blocks"] == 1}
    assert parts["fast"]["memory"] <= 0.25
    assert parts["exact"]["memory"] <= 0.25
    assert parts["exact"]["time"] <= 2
    assert {row["set"]: row["ratio"] >= 0.9 for row in figures["The loop"]["rows"]} == {"imdb": True, "banking77": True}


def test_a_missing_study_is_named_with_its_command(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "DOCS", tmp_path)
    with pytest.raises(
        DataError, match=r"compare.json: make it with python -m training.compare --output docs/measured"
    ):
        notes.studies()


def test_without_the_data_sets_it_says_so_before_it_measures(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NLP_APP_DATA", raising=False)
    assert "set NLP_APP_DATA to a folder with imdb and banking77" in refused(notes.main)
