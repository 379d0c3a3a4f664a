"""`python -m benchmarks.faulty_server KIND FILE …flags of serving…`: our server, whose model breaks once FILE is there.

A call of the model in its thread then never returns (hung), or fails, as every one after it (dead); what the event loop
computes by itself goes on. When the first call met the fault is the time of the file that `met_of` names.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from nlp_app.errors import run_command
from serving.__main__ import main
from serving.answers import Answers
from serving.batching import Item

MODULE = "benchmarks.faulty_server"


def _hang() -> None:
    threading.Event().wait()


def _die() -> None:
    raise RuntimeError("the model is broken, as it was asked to be")


FAULTS: dict[str, Callable[[], None]] = {"hung": _hang, "dead": _die}


def met_of(file: Path) -> Path:
    """The file that the first call makes which meets the fault."""
    return file.with_name(f"{file.name}.met")


def break_answers(kind: str, file: Path) -> None:
    """Let every model's answers meet a fault in its thread, once a file is there."""
    whole = Answers.answer

    def answer(self: Answers, items: Sequence[Item]) -> list[bytes]:
        if file.exists() and threading.current_thread() is not threading.main_thread():
            with suppress(FileExistsError):
                met_of(file).touch(exist_ok=False)
            FAULTS[kind]()
        return whole(self, items)

    Answers.answer = answer  # type: ignore[method-assign]


if __name__ == "__main__":
    kind, file, *flags = sys.argv[1:]
    break_answers(kind, Path(file))
    sys.argv[1:] = flags
    run_command(main)
