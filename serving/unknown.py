"""Environment variables that look like settings and are none: one that is misspelt would change nothing, unsaid."""

import difflib
import sys
from collections.abc import Iterable

from serving.settings import Settings
from serving.workers import VARIABLE

PREFIX = "NLP_APP_"
OTHERS = {VARIABLE, f"{PREFIX}DATA"}
"""The workers' own, and where the benchmarks find their data."""


def warn_of_unknown(variables: Iterable[str]) -> None:
    """A line on standard error for each, with the setting that is nearest to it."""
    settings = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for variable in sorted(variables):
        name = variable.upper()  # as the settings are read
        if name.startswith(PREFIX) and name not in OTHERS.union(settings):
            [nearest] = difflib.get_close_matches(name, settings, n=1, cutoff=0)
            print(f"warning: {variable} is no setting: did you mean {nearest}?", file=sys.stderr)
