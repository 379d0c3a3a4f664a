import subprocess
import sys
from pathlib import Path

import pytest

from nlp_app.heap import resident
from tests.conftest import ROOT

FREED = """
import sys
from nlp_app import heap
getattr(heap, sys.argv[1])()
before = heap.resident()
blocks = [bytearray(b"x" * 8_000_000) for _ in range(8)]
del blocks
print(heap.resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="glibc of Linux alone is told")
@pytest.mark.parametrize(("what", "kept"), [("keep_all", True), ("keep_little", False)])
def test_what_is_freed_stays_in_training_and_goes_back_from_a_server(what: str, kept: bool) -> None:
    command = [sys.executable, "-c", FREED, what]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert (int(done.stdout) > 32_000_000) is kept


def test_memory_of_the_process_is_told() -> None:
    assert resident() > 10_000_000
