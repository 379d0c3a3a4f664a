"""The weights of a checkpoint folder: how they are stored, read, and refused in one sentence."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from nlp_app.errors import CheckpointError
from nlp_app.parts import CONFIG, REMEDY, parse
from nlp_app.quantize import FLOAT32, KINDS, PACKED

OF_NGRAMS = {"ngrams.idf", "ngrams.weight"}
"""Tensors with a row for each slot that is seen, after one for all others."""


def read_weights(folder: Path, data: bytes) -> str:
    """How the weights are stored."""
    kind = parse(folder / CONFIG, data).get("weights", FLOAT32)  # version 0.1 had none
    if kind not in (*KINDS, PACKED):
        read = ", ".join((*KINDS, PACKED))
        raise CheckpointError(
            f"{folder / CONFIG} says that the weights are {kind!r}, but this program reads {read}: "
            f"update the program, or {REMEDY}"
        )
    return str(kind)


def matching_state(path: Path, data: bytes, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors, after each was compared with the module's in name, shape and dtype."""
    try:
        state = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error}); {REMEDY}") from None
    if state.keys() != expected.keys():
        names = ", ".join(sorted(state.keys() ^ expected.keys()))
        raise CheckpointError(f"{path} and {CONFIG} do not agree on which tensors there are: {names}; {REMEDY}")
    for name, tensor in sorted(state.items()):
        if (tensor.shape, tensor.dtype) != (expected[name].shape, expected[name].dtype):
            raise CheckpointError(
                f"{path} has {name} as {_describe(tensor)}, but {CONFIG} makes it {_describe(expected[name])}; {REMEDY}"
            )
    return state


def check_values(path: Path, state: Mapping[str, Tensor]) -> None:
    """That each weight is a number, and that unseen n-grams weigh nothing: golden inputs read few of the rows."""
    for name, tensor in sorted(state.items()):
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path} has {name} with values that are infinite or no numbers; {REMEDY}")
    for name in sorted(OF_NGRAMS & state.keys()):
        if state[name][0].any():
            raise CheckpointError(f"{path} has {name} with a first row, that of unseen n-grams, other than 0; {REMEDY}")


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
