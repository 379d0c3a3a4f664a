"""What docs/notes-measured.md says of whole modules happens here again, in processes of its own."""

from typing import Any

import pytest
import torch

from benchmarks import saving


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return saving.measure(torch.device("cpu"))


def outcome(result: dict[str, Any], change: str, way: str) -> str:
    return str(next(row for row in result["changes"] if row["change"] == change)[way])


def test_a_whole_module_breaks_with_its_class(result: dict[str, Any]) -> None:
    assert outcome(result, "nothing", "whole module") == "loads and answers"
    assert "Can't get attribute 'Net'" in outcome(result, "the class is renamed", "whole module")
    assert "No module named 'network'" in outcome(result, "the class moves to another file", "whole module")
    assert "has no attribute 'norm'" in outcome(result, "the class gains a layer", "whole module")


def test_parameters_do_not(result: dict[str, Any]) -> None:
    for change in ("nothing", "the class is renamed", "the class moves to another file"):
        assert outcome(result, change, "parameters only") == "loads and answers"
    assert 'Missing key(s) in state_dict: "norm.weight"' in outcome(
        result, "the class gains a layer", "parameters only"
    )


def test_only_a_whole_module_runs_hidden_code(result: dict[str, Any]) -> None:
    assert [row["ran"] for row in result["hidden_code"]] == [True, False, False]


def test_the_verdict_follows_from_the_outcomes(result: dict[str, Any]) -> None:
    assert "**Verdict: holds**" in saving.section(result)
    harmless = [{**row, "ran": False} for row in result["hidden_code"]]
    assert "**Verdict: does not hold**" in saving.section({**result, "hidden_code": harmless})
