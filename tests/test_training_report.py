"""The last screen and metrics.json: what they say is so."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from training import report
from training.console import make_console

CHILD = "from training.report import peak_memory_mb; print(peak_memory_mb())"


def test_the_peak_is_not_that_of_who_started_the_run() -> None:
    parent = (
        f"import os, sys; large = b'x' * 1_500_000_000; os.execv(sys.executable, [sys.executable, '-c', {CHILD!r}])"
    )
    told = subprocess.run([sys.executable, "-c", parent], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 50 < float(told) < 1500


def test_the_peak_where_the_system_has_no_such_file(monkeypatch: pytest.MonkeyPatch) -> None:
    known = report.peak_memory_mb()
    monkeypatch.setattr(report, "STATUS", Path(os.devnull))
    assert report.peak_memory_mb() > known / 2


@pytest.mark.parametrize(
    ("texts", "alone", "why"),
    [
        (99, {"convolution alone": {}}, "that needs n-grams, which the model does not read"),
        (9, {"convolution alone": {}, "n-grams alone": {}}, "that needs 45 validation texts or more, and there are 9"),
        (99, {"convolution alone": {}, "n-grams alone": {}}, "too many of the validation texts share no n-gram with"),
    ],
)
def test_why_no_text_is_out_of_scope(
    texts: int, alone: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scope = {"min_familiarity": 0.0, "validation": 0.0, "test": None, "strangers": 0.0}
    report._print_scope(make_console(), scope, {"texts": texts, "alone": alone})
    assert f"no text is called out of scope: {why}" in capsys.readouterr().out
