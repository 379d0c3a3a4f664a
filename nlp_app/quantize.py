"""Weights as whole numbers of 8 bits: a quarter of the bytes in the file; in memory they are float32 again.

Each BLOCK of neighbours in a matrix shares a scale, its largest magnitude / LEVELS, and each weight is stored as the
nearest multiple of it. Scales are bfloat16: with their 8 significant bits, LEVELS times a scale is exact in float32.
So weights that were rounded once are rounded to themselves, and a module can be measured before it is saved.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from nlp_app.model import TextClassifier

FLOAT32, INT8 = KINDS = ("float32", "int8")
BLOCK = 64
"""A scale takes 2 bytes: 66 bytes for what were 256."""
LEVELS = 127
SMALLEST = 2.0**-100
"""Scales below it are 0, and their weights too: near the smallest float32, LEVELS times a scale is not exact."""
SCALES = ".scales"
VECTORS = ("ngrams.idf",)
"""As long as the matrix beside it; the other vectors are biases and BatchNorm's, which are short, and stay float32."""


def round_weights(module: TextClassifier) -> None:
    """Give a module, in place, the weights that it would have if it were saved as int8 and loaded again."""
    state = module.state_dict()
    module.load_state_dict(dequantize(quantize(state)))


def quantize(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A float32 state_dict as it is stored: int8 of the same shape, and the scales of its blocks beside it."""
    stored = dict(state)
    for name in _quantized(state):
        blocks = _blocks(state[name].float())
        scales = (blocks.abs().amax(dim=1) / LEVELS).bfloat16()
        scales[scales < SMALLEST] = 0
        each = scales.float().unsqueeze(1)
        levels = torch.where(each > 0, blocks / each, 0).round().clamp(-LEVELS, LEVELS).to(torch.int8)
        stored[name] = levels.flatten()[: state[name].numel()].view(state[name].shape)
        stored[name + SCALES] = scales
    return stored


def dequantize(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What quantize was given, to the nearest level."""
    state = {name: tensor for name, tensor in stored.items() if not name.endswith(SCALES)}
    for name in (name.removesuffix(SCALES) for name in stored if name.endswith(SCALES)):
        weights = _blocks(stored[name].float()) * stored[name + SCALES].float().unsqueeze(1)
        state[name] = weights.flatten()[: stored[name].numel()].view(stored[name].shape)
    return state


def stored_like(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the names, shapes and dtypes that quantize gives, for a state_dict that may have no memory (meta)."""
    like = dict(state)
    for name in _quantized(state):
        like[name] = torch.empty_like(state[name], dtype=torch.int8)
        like[name + SCALES] = state[name].new_empty(-(-state[name].numel() // BLOCK), dtype=torch.bfloat16)
    return like


def _quantized(state: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in state.items() if tensor.ndim > 1 or name in VECTORS]


def _blocks(tensor: Tensor) -> Tensor:
    """(N, BLOCK), the last one filled up with zeros."""
    return F.pad(tensor.flatten(), (0, -tensor.numel() % BLOCK)).view(-1, BLOCK)
