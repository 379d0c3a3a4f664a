"""`python -m benchmarks.chaos`: faults in real servers under load, and what became of every request.

Each answer is compared with the in-process prediction of its text by the version that it names. The labels of
one version are those of the other turned round by one, so that an answer that mixes them is seen.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from benchmarks.chaos_connections import few_files, hang_up, silent_connections
from benchmarks.chaos_lab import Lab, make_lab
from benchmarks.chaos_mixed import mixed
from benchmarks.chaos_outcomes import Outcome, Scenario
from benchmarks.chaos_processes import killed_worker, sigterm
from benchmarks.chaos_reloads import corrupted, reload
from benchmarks.chaos_stalls import endless_body, half_a_body, one_byte_a_second
from benchmarks.chaos_threads import dead_thread, hung_thread
from benchmarks.common import markdown
from benchmarks.processes import end_by_signal
from nlp_app.errors import run_command
from training.console import make_console

SCENARIOS: dict[str, Callable[[Lab, Scenario], Coroutine[Any, Any, None]]] = {
    "sigterm": sigterm,
    "hang-up": hang_up,
    "half-a-body": half_a_body,
    "one-byte-a-second": one_byte_a_second,
    "endless-body": endless_body,
    "silent-connections": silent_connections,
    "few-files": few_files,
    "reload": reload,
    "corrupted": corrupted,
    "killed-worker": killed_worker,
    "hung-thread": hung_thread,
    "dead-thread": dead_thread,
    "mixed": mixed,
}


def main() -> int:
    """Run the scenarios; gives 1 where one is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--requests", type=int, default=200_000, help="of the mixed run (default: 200000)")
    parser.add_argument("--seconds", type=float, default=5, help="that most other scenarios take (default: 5)")
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS), help="scenarios to run")
    parser.add_argument("--output", type=Path, help="write every figure to this JSON file")
    options = parser.parse_args()
    end_by_signal()
    with tempfile.TemporaryDirectory() as folder:
        lab = make_lab(options, Path(folder))
        found = [run(name, lab) for name in options.only]
    result = {"requests": options.requests, "scenarios": [each.to_json() for each in found]}
    make_console().print(section(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    return int(any(not each.kept for each in found))


def run(name: str, lab: Lab) -> Scenario:
    """One scenario."""
    found = Scenario(name=name)
    try:
        asyncio.run(SCENARIOS[name](lab, found))
    except RuntimeError as error:
        found.faults.append(str(error))
    print(f"{name}: {found.counts.total():,} requests, {found.faults or 'no fault'}", file=sys.stderr, flush=True)
    return found


def section(result: Mapping[str, Any]) -> str:
    """What became of the requests of each scenario."""
    rows = []
    for values in result["scenarios"]:
        counts = {
            name: Counter({Outcome(key): count for key, count in values[name].items()}) for name in ("counts", "faulty")
        }
        found = Scenario(**{**values, **counts})
        word = "kept" if found.kept else "**missed**"
        notes = [note if count == 1 else f"{count} x {note}" for note, count in Counter(found.notes).items()]
        told = "; ".join([*found.faults, *notes])
        numbers = [f"{found.counts[outcome]:,}" for outcome in Outcome]
        others = ", ".join(f"{count:,} {outcome}" for outcome, count in found.faulty.items())
        rows.append((found.name, f"{found.counts.total():,}", *numbers, others, word, told))
    header = ("scenario", "requests", *Outcome, "faulty requests", "", "")
    return markdown(header, rows)


if __name__ == "__main__":
    run_command(main)
