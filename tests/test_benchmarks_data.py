import os
import subprocess
import sys

from benchmarks.common import device_name
from benchmarks.data import section, stage_rates
from benchmarks.rss import anonymous_bytes, tree_of
from nlp_app.device import find_device

RUN = {
    "texts": 100_000, "peak_mb": 1650.0, "cached_per_s": 0.0, "train_per_s": 3000.0, "cache_bytes_per_text": 0.0,
    "seconds": 60.0,
}  # fmt: skip
LARGE = {**RUN, "texts": 10_000_000, "cached_per_s": 50_000.0, "cache_bytes_per_text": 105.0}
RESULT = {
    "texts": 10_000_000, "steps": None, "runs": [RUN, LARGE], "library_per_s": 80_000.0,
    "rows": [
        {"what": "memory", "value": 1.26, "bar": "≤ 1.2", "kept": False},
        {"what": "pace", "value": 0.62, "bar": "≥ 0.5", "kept": True},
    ],
}  # fmt: skip


def test_each_bar_is_kept_or_missed() -> None:
    told = section(RESULT)
    assert "| memory | 1.26 | ≤ 1.2 | missed |" in told
    assert "| pace | 0.62 | ≥ 0.5 | kept |" in told
    assert "| 10,000,000 | 1,650 | 50,000 | 3,000 | 105 | 60 |" in told
    assert f"one epoch, {device_name(find_device('cpu'))};" in told
    assert "the first 100 steps of an epoch" in section({**RESULT, "steps": 100})


def test_the_stages_are_read_off_what_a_run_says() -> None:
    told = "read 2,000 texts in 3s, 1,234 texts/s\ntokenised 2,000 texts in 1s, 2,000 texts/s\nselection 9 texts/s\n"
    assert stage_rates(told) == {"read": 1234, "tokenised": 2000}


def test_memory_is_that_of_a_process_and_of_all_that_descend_from_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert {os.getpid(), child.pid} <= set(tree_of(os.getpid()))
        child.communicate(b"\n")
    assert anonymous_bytes(os.getpid()) > 10_000_000
    assert anonymous_bytes(child.pid) == 0
