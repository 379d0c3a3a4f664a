"""What a search tries: the options that it varies, the values of each, and a configuration as a command line."""

import random
import shlex
from collections.abc import Mapping, Set
from dataclasses import fields, replace
from typing import Any

from optuna.trial import Trial

from training.options import Options
from training.sampling import NONE

FACTORS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Of the default learning rate, which goes by the number of classes."""
ORDERED: dict[str, tuple[Any, ...]] = {
    "learning_rate": FACTORS,
    "dropout": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "token_dropout": (0.0, 0.05, 0.1, 0.15, 0.2, 0.3),
    "num_filters": (32, 64, 128),
    "embedding_dim": (64, None, 256),  # None: the usual 128
    "label_smoothing": (0.0, 0.05, 0.1),
    "batch_size": (32, 64, 128),
}
"""A search may learn that more is better."""
UNORDERED: dict[str, tuple[Any, ...]] = {
    "kernel_sizes": ((1, 3, 5), (1, 2, 3), (2, 3, 4), (1, 2, 3, 4), (1,)),
    "class_weights": (("auto",), ("none",), ("balanced",)),
    "tokenizer": ("words", "subwords"),
    "ngrams": ("auto", "words"),
}
CHANGES = 2
NOT_REPEATED = {"max_seconds", "resume", "overwrite", "output"}


def searched(options: Options, given: Set[str]) -> dict[str, tuple[Any, ...]]:
    """The values of each option that is varied: those that the user did not give and that the loss takes."""
    unfit = set(given)
    if options.loss != "cross-entropy" or options.focal_gamma:
        unfit.add("label_smoothing")
    if "micro_batch_size" in given or options.sharding == "fast":  # at most the batch
        unfit.add("batch_size")
    if options.sampling != NONE:
        unfit.add("class_weights")
    if options.vectors is not None:
        unfit.add("embedding_dim")
    if options.unlabelled is not None:  # learnt from once, for one size of the blocks
        unfit |= {"embedding_dim", "num_filters", "kernel_sizes"}
    return {name: values for name, values in {**ORDERED, **UNORDERED}.items() if name not in unfit}


def defaults(options: Options, space: dict[str, tuple[Any, ...]]) -> dict[str, int]:
    """The places of the defaults in the space, as trial parameters."""
    places = {name: values.index(getattr(options, name)) for name, values in space.items() if name != "learning_rate"}
    return places | ({"learning_rate": FACTORS.index(1.0)} if "learning_rate" in space else {})


def neighbours(
    space: Mapping[str, tuple[Any, ...]], start: Mapping[str, int], *, seed: int, count: int
) -> list[dict[str, int]]:
    """Places that differ from the start in CHANGES options each: most of what is far from good defaults is worse."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        names = draw.sample(list(space), min(CHANGES, len(space)))
        changed = {
            name: draw.choice([place for place in range(len(space[name])) if place != start[name]]) for name in names
        }
        found.append({**start, **changed})
    return found


def suggest(trial: Trial, options: Options, space: dict[str, tuple[Any, ...]], rate: float) -> Options:
    """The options of a trial.

    Args:
        trial: asked for a place in each option's values.
        options: the user's.
        space: what searched gave.
        rate: the default learning rate.
    """
    chosen: dict[str, Any] = {}
    for name, values in space.items():
        if name in UNORDERED:
            place = trial.suggest_categorical(name, list(range(len(values))))
        else:
            place = trial.suggest_int(name, 0, len(values) - 1)
        chosen[name] = values[place]
    factor = chosen.pop("learning_rate", 1.0)
    if factor != 1:
        chosen["learning_rate"] = float(f"{rate * factor:.3g}")
    return replace(options, **chosen)


def differences(options: Options, base: Options) -> dict[str, Any]:
    """The options that differ from another set of options."""
    names = [one.name for one in fields(Options)]
    return {name: getattr(options, name) for name in names if getattr(options, name) != getattr(base, name)}


def command_line(options: Options) -> str:
    """The command that trains by these options, with a folder beside --output for its result."""
    values = {"train": options.train, **differences(options, Options())}
    return f"python -m training.run {options_line(values)} --output {shlex.quote(f'{options.output}.again')}"


def options_line(values: Mapping[str, Any]) -> str:
    """Options as flags."""
    words = []
    for name, value in values.items():
        if name not in NOT_REPEATED:
            words += [f"--{name.replace('_', '-')}", *_words(value)]
    return shlex.join(words)


def _words(value: Any) -> list[str]:
    if isinstance(value, bool):
        return []
    return [str(one) for one in value] if isinstance(value, tuple) else [str(value)]
