"""Where training's command lines print: texts and labels as they stand, whatever brackets or colons they hold."""

import os
import sys

from rich.console import Console

WIDTH_OF_A_FILE = 200


class _Console(Console):
    """A console that falls silent where its reader goes away, as `| head` does: training goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_console() -> Console:
    """A console that takes no text for markup, emoji codes or numbers to colour, and breaks no line of its own."""
    width = None if sys.stdout.isatty() else WIDTH_OF_A_FILE
    return _Console(markup=False, emoji=False, highlight=False, soft_wrap=True, width=width)


def warn(console: Console, message: str) -> None:
    """Print a warning."""
    console.print("warning: ", style="yellow", end="")
    console.print(message)
