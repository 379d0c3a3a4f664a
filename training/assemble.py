"""Options, data and machine made into a learner."""

import shutil
from dataclasses import replace

import torch
from rich.console import Console

from nlp_app.device import find_device
from nlp_app.errors import ConfigError
from nlp_app.heap import keep_all
from nlp_app.tokenizer import padded_length
from training.batches import Rows
from training.console import warn
from training.interrupt import StopRequest
from training.learner import Learner
from training.memory import free_bytes, step_bytes
from training.options import Options
from training.prepare import Prepared
from training.recipe import Recipe
from training.sizes import explain

COMPILERS = ("g++", "clang++", "c++")


def check_machine(options: Options) -> None:
    """Raise a ConfigError where the machine lacks what the options ask for."""
    find_device(options.device)
    if options.compile and not any(map(shutil.which, COMPILERS)):
        raise ConfigError(f"--compile needs a C++ compiler, and there is none of {', '.join(COMPILERS)}: leave it out")


def new_learner(
    options: Options, prepared: Prepared, data: Rows, console: Console, stop: StopRequest | None = None
) -> Learner:
    """A learner with an untrained module.

    Args:
        options: what the user asked for.
        prepared: the data of the run.
        data: what this learner is going to be trained on.
        console: told of what the machine has no memory for.
        stop: heeded each time that memory runs out, for many tries may come before the step's end.
    """

    def say(message: str) -> None:
        if stop is not None:
            stop.check()
        warn(console, message)

    keep_all()
    device = find_device(options.device)
    config = prepared.config
    weights = None if options.evened_out else prepared.class_weights
    recipe = options.recipe(
        len(prepared.train),
        config.num_classes,
        weights,
        tokens=prepared.train.tokens,
        multi_label=config.multi_label,
    )
    recipe = fitting(recipe, prepared, device, console)
    return Learner(
        module=prepared.new_module(options.seed),
        recipe=recipe,
        device=device,
        texts=len(data),
        say=say,
    )


def fitting(recipe: Recipe, prepared: Prepared, device: torch.device, console: Console) -> Recipe:
    """The recipe, with gradient checkpointing where that is left open and the largest batch would not fit.

    Of a batch in parts, a part has to fit; exact parts go through the blocks one by one, and recompute none.
    """
    free, exact_parts = free_bytes(device), recipe.sharding == "exact" and recipe.at_once < recipe.batch_size
    if recipe.gradient_checkpointing != "auto" or free is None or exact_parts:
        return recipe
    need = step_bytes(prepared.config, texts=recipe.at_once, tokens=longest(prepared))
    if need <= free:
        return recipe
    short = f"a step may need {need / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free"
    if prepared.config.num_blocks == 1:
        remedy = f"{'lower' if recipe.micro_batch_size else 'give'} --micro-batch-size"
        warn(console, f"{short}: gradient checkpointing saves nothing in a single block, {remedy}")
        return recipe
    warn(console, f"{short}: gradient checkpointing is on")
    return replace(recipe, gradient_checkpointing="blocks")


def longest(prepared: Prepared) -> int:
    """T of the longest batch."""
    return padded_length(prepared.train.longest)


def explain_sizes(options: Options, prepared: Prepared, console: Console) -> None:
    """Where asked for, measure what other sizes of the layers would cost, and say it."""
    if not options.explain_sizes:
        return
    device, texts = find_device(options.device), options.micro_batch_size or options.batch_size
    for advice in explain(prepared.config, batch_size=texts, tokens=longest(prepared), device=device):
        if advice.costs_speed:
            warn(console, str(advice))
        else:
            console.print(str(advice))
