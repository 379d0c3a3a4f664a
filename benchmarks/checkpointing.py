"""`python -m benchmarks.checkpointing`: what gradient checkpointing saves and costs, beside a plain run.

The plain run is the same module without it: torch's own BatchNorm1d, no dropout.
"""

from collections.abc import Mapping
from statistics import median
from typing import Any

import torch

from benchmarks.common import device_name, make_batch, make_module, markdown, run_benchmark
from nlp_app.errors import run_command
from training.losses import Loss
from training.measure import Work, median_seconds, peak_bytes
from training.recompute import recompute_blocks
from training.sharding import backward_whole

CASES = ((1, 1), (4, 1), (16, 1), (16, 2), (16, 4), (32, 3))
"""Blocks, and blocks in a segment."""
BARS = {"blocks": 16, "segment": 2, "memory": 0.45, "time": 1.4}
ROUNDS = 9


def measure(device: torch.device) -> dict[str, Any]:
    """Peak of live bytes and seconds of forward and backward, with and without, for each case."""
    texts, tokens = (64, 64) if device.type == "cpu" else (256, 256)
    rows = []
    for blocks, segment in CASES:
        works = [make_work(device, blocks, segment_, texts, tokens) for segment_ in (None, segment)]
        plain_s, recomputed_s = median_seconds(works, device, rounds=ROUNDS)
        plain, recomputed = (peak_bytes(work, device) for work in works)
        rows.append(
            {
                "blocks": blocks,
                "segment": segment,
                "plain_mb": plain / 1e6,
                "recomputed_mb": recomputed / 1e6,
                "memory": recomputed / plain,
                "plain_s": plain_s,
                "recomputed_s": recomputed_s,
                "time": recomputed_s / plain_s,
            }
        )
    return {"device": device_name(device), "texts": texts, "tokens": tokens, "rows": rows, "bars": BARS}


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    rows = [
        (row["blocks"], row["segment"], f"{row['plain_mb']:.0f}", f"{row['recomputed_mb']:.0f}",
         f"{row['memory']:.2f}", f"{row['time']:.2f}")
        for row in result["rows"]
    ]  # fmt: skip
    header = ("blocks", "in a segment", "plain MB", "checkpointed MB", "memory, of plain", "time, of plain")
    deep = [row for row in result["rows"] if row["blocks"] >= 16]
    extra = [100 * (row["time"] - 1) for row in deep]
    least = min(row["memory"] for row in deep)
    one = next(row for row in result["rows"] if row["blocks"] == 1)
    verdict = "holds" if 20 <= median(extra) <= 45 else "does not hold"
    single = f"With a single block it takes {one['memory']:.2f} of the memory."
    if one["memory"] > 0.9:
        single = (
            f"With a single block there is nothing to gain: {one['memory']:.2f} of the memory, since the block that is "
            "computed again is all there is."
        )
    return (
        f"{markdown(header, rows)}\n\n"
        f"{result['texts']} texts of {result['tokens']} tokens, {result['device']}; forward and backward.\n\n"
        f"**Verdict: {verdict}** for deep stacks: {median(extra):.0f} % more time (median) with 16 blocks and "
        f"more, and as little as {least:.2f} of the memory. A third is what forward + backward + forward costs where "
        f"backward takes twice as long as forward. {single}"
    )


def make_work(device: torch.device, blocks: int, segment: int | None, texts: int, tokens: int) -> Work:
    """Forward and backward of one batch; segment is None for a plain run."""
    module = make_module(device, vocab_size=3000, num_blocks=blocks, dropout=0.0)
    if segment is not None:
        recompute_blocks(module, segment=segment)
    input_ids, targets = make_batch(device, texts=texts, tokens=tokens, vocab_size=3000)

    def work() -> None:
        backward_whole(module, Loss(), input_ids, targets)
        module.zero_grad(set_to_none=True)

    return work


def main() -> int:
    """Measure, print, write; gives the exit code."""
    return run_benchmark("checkpointing", __doc__, measure, section)


if __name__ == "__main__":
    run_command(main)
