"""`python -m training.quantize DIR --output DIR`: a checkpoint again, its weights stored as int8."""

import argparse
from pathlib import Path

from nlp_app.errors import quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

from nlp_app.checkpoint import load_checkpoint, save_checkpoint
from nlp_app.folder import publish, repair
from nlp_app.parts import MODEL
from nlp_app.quantize import INT8
from training.options import Options
from training.output import check_output, work_on


def main() -> int:
    """Write what the command line names; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.quantize", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder")
    parser.add_argument("--output", type=Path, required=True, help="folder for the smaller checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace the checkpoint in --output")
    given = parser.parse_args()
    options = Options(output=given.output, overwrite=given.overwrite)
    repair(options.output)
    check_output(options)
    checkpoint, before = load_checkpoint(given.checkpoint), _bytes(given.checkpoint)
    with work_on(options) as work:
        save_checkpoint(
            work,
            module=checkpoint.module,
            tokenizer=checkpoint.tokenizer,
            decision=checkpoint.decision,
            trained=checkpoint.trained,
            metrics={**checkpoint.metrics, "test": None},  # it was of the other weights: training.evaluate gives theirs
            weights=INT8,
        )
        publish(options.output)
    print(f"the weights take {_bytes(options.output):,} bytes in {options.output}, where they took {before:,}")
    return 0


def _bytes(folder: Path) -> int:
    return (folder / MODEL).stat().st_size


if __name__ == "__main__":
    run_command(main)
