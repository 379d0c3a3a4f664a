"""What the image runs, `python -m serving.container`: the model in /model, or the sample where nothing is mounted.

NLP_APP_CHECKPOINT or --checkpoint names others.
"""

from serving.signals import mind_signals, run_server

if __name__ == "__main__":
    mind_signals()

import os
import sys
from pathlib import Path

from serving.__main__ import main

VARIABLE = "NLP_APP_CHECKPOINT"
MODEL, SAMPLE = Path("/model"), Path("/sample")


def choose() -> None:
    """Let the server find its model."""
    asked = VARIABLE in os.environ or any(one.startswith("--checkpoint") for one in sys.argv[1:])
    if asked:
        return
    os.environ[VARIABLE] = str(MODEL if MODEL.exists() else SAMPLE)
    if not MODEL.exists():
        print(
            f"warning: nothing is mounted at {MODEL}, so the sample model answers: docker run -v DIR:{MODEL}:ro …",
            file=sys.stderr,
        )


def run() -> int:
    """Serve; gives the exit code."""
    choose()
    return main()


if __name__ == "__main__":
    run_server(run)
