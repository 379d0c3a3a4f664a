"""Fields of a dataclass as flags of a command line, each with its default and its rule."""

import argparse
from collections.abc import Callable
from dataclasses import Field, field
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from nlp_app.errors import ConfigError


def option(default: Any, text: str, *, free: bool = False, **rule: Any) -> Any:
    """A field that is a flag.

    Args:
        default: its value where the flag is not given.
        text: its help.
        free: whether a resumed run may differ in it from the interrupted one.
        rule: low and high, inclusive, of a number; choices of a word; many for a flag that takes several values.
    """
    return field(default=default, metadata={"help": text, "free": free, **rule})


def add(parser: argparse.ArgumentParser, option: Field[Any], shown: str | None = None) -> None:
    """Give the parser the flag of a field, whose default is shown as the given words where there are any."""
    flag, rule = f"--{option.name.replace('_', '-')}", option.metadata
    default: Any = option.default
    if isinstance(default, bool):
        parser.add_argument(flag, action="store_true", default=None, help=rule["help"])
        return
    # int of int, int | None and tuple[int, ...] alike
    kind: Any = next(kind for kind in (*get_args(option.type), option.type) if kind is not NoneType)
    if kind in (str, Path):
        kind = filled(flag, kind)
    if shown is None:
        shown = " ".join(map(str, default)) if rule.get("many") else default
        shown = "none" if shown in (None, "") else shown
    action: Any = "extend" if rule.get("many") else "store"
    parser.add_argument(
        flag, type=kind, action=action, nargs="+" if rule.get("many") else None, choices=rule.get("choices"),
        help=f"{rule['help']} (default: {shown})", metavar=None if rule.get("choices") else option.name.upper(),
    )  # fmt: skip


def filled(flag: str, kind: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """For argparse: the kind of a flag whose word must not be empty, as a variable is in the shell that was never set.

    An empty path would be the folder that the program runs in.
    """

    def read(word: str) -> Any:
        if not word:
            raise ConfigError(f"{flag} is empty: give it a value, or leave it out")
        return kind(word)

    return read


def check(option: Field[Any], value: Any) -> None:
    """Raise a ConfigError where a number is out of its range."""
    if "low" not in option.metadata or value is None:
        return
    low, high = option.metadata["low"], option.metadata["high"]
    for number in value if isinstance(value, tuple) else (value,):
        if not low <= number <= high:  # also false for NaN
            flag = f"--{option.name.replace('_', '-')}"
            raise ConfigError(f"{flag} is {number}, but must be from {low:,} to {high:,}")
