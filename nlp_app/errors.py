"""Every error that this project raises on purpose; each message is one sentence for the person at the keyboard.

    NlpAppError
    |-- ConfigError       an option or a ModelConfig value that breaks a rule
    |-- DataError         a file of texts that cannot be used, with its name and line
    |-- TokenizerError    a text that cannot be encoded, or a tokenizer file that is not one
    |-- CheckpointError   a checkpoint folder that cannot be trusted
    `-- OutputError       a place that cannot be written: it exists, is in use, is full, is not permitted

The command lines print the message on standard error and exit with EXIT_CODE; a traceback means a bug.
"""

import os
import sys
from collections.abc import Callable
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


def run_command(command: Callable[[], int]) -> NoReturn:
    """Run a command line's main function and turn a deliberate error into one sentence and EXIT_CODE."""
    try:
        code = command()
    except NlpAppError as error:
        fail(error)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit would fail again
        code = 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED_CODE
    raise SystemExit(code)
