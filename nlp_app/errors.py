"""Every error that this project raises on purpose; each message is one sentence for the person at the keyboard.

    NlpAppError
    |-- ConfigError       an option or a ModelConfig value that breaks a rule
    |-- DataError         a file of texts that cannot be used, with its name and line
    |-- TokenizerError    a text that cannot be encoded, or a tokenizer file that is not one
    |-- CheckpointError   a checkpoint folder that cannot be trusted
    `-- OutputError       a place that cannot be written: it exists, is in use, is full, is not permitted

The command lines print the message on standard error and exit with EXIT_CODE; a traceback means a bug.
"""

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

EXIT_CODE = 2
INTERRUPTED_CODE = 130
"""Of a program that Ctrl-C ended, by the shells' convention: 128 + SIGINT."""


class NlpAppError(Exception):
    """The root: catch this to catch every deliberate error of the project."""


class ConfigError(NlpAppError):
    """An option or a ModelConfig value breaks a rule."""


class DataError(NlpAppError):
    """A file of texts cannot be used."""


class TokenizerError(NlpAppError):
    """A text cannot be encoded, or a tokenizer file is not one."""


class CheckpointError(NlpAppError):
    """A checkpoint folder cannot be trusted."""


class OutputError(NlpAppError):
    """A file or folder cannot be written."""


def fail(message: object) -> NoReturn:
    """Print one sentence on standard error and exit with EXIT_CODE."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(EXIT_CODE)


def quit_at_once() -> None:
    """Let Ctrl-C end the program with a word while it is still being imported; for run_command it is as it was."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where the caller has it ignored
        signal.signal(signal.SIGINT, _quit)


def _quit(*_: object) -> NoReturn:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED_CODE)  # an exception would go through whatever import it met


def run_command(command: Callable[[], int]) -> NoReturn:
    """Run a command line's main function and turn an error of ours or of the system into a sentence and EXIT_CODE."""
    _make_streams_usable()
    try:
        if signal.getsignal(signal.SIGINT) is _quit:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = command()
        sys.stdout.flush()
    except NlpAppError as error:
        fail(error)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit would fail again
        code = 0
    except OSError as error:  # a full disk behind standard output, a name too long, a place not permitted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        place = error.filename or "standard output"
        fail(f"{os.fspath(place)!r} cannot be used: {error.strerror or error}")
    except KeyboardInterrupt as interrupt:
        print(interrupt.args[0] if interrupt.args else "interrupted", file=sys.stderr)
        code = INTERRUPTED_CODE
    raise SystemExit(code)


def _make_streams_usable() -> None:
    """Where the caller closed standard output it is nowhere; where it takes no emoji they are escaped."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
