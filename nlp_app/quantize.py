"""Weights as whole numbers of 8 bits: a quarter of the bytes in the file; in memory they are float32 again.

Each BLOCK of neighbours in a matrix shares a scale, its largest magnitude / LEVELS, and each weight is stored as the
nearest multiple of it. Scales are bfloat16: with their 8 significant bits, LEVELS times a scale is exact in float32.
So weights that were rounded once are rounded to themselves, and a module can be measured before it is saved.

Which slots of n-grams are seen is packed too: a bit a slot would be a fifth of a small set's file.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nlp_app.model import TextClassifier

FLOAT32, INT8 = KINDS = ("float32", "int8")
PACKED = "int8-packed"
"""What config.json says of int8. Where it says int8 the seen slots are a bit each, as they were at first."""
BLOCK = 64
"""A scale takes 2 bytes: 66 bytes for what were 256."""
LEVELS = 127
SMALLEST = 2.0**-100
"""Scales below it are 0, and their weights too: near the smallest float32, LEVELS times a scale is not exact."""
SCALES = ".scales"
SEEN, IDF = "ngrams.seen", "ngrams.idf"
VECTORS = (IDF,)
"""As long as the matrix beside it; the other vectors are biases and BatchNorm's, which are short, and stay float32."""


def round_weights(module: TextClassifier) -> None:
    """Give a module, in place, the weights that it would have if it were saved as int8 and loaded again."""
    state = module.state_dict()
    module.load_state_dict(dequantize(quantize(state), slots=module.config.ngram_slots))


def quantize(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A float32 state_dict as it is stored: int8 of the same shape, the scales of its blocks beside it; seen packed."""
    stored = dict(state)
    for name in _quantized(state):
        blocks = _blocks(state[name].float())
        scales = (blocks.abs().amax(dim=1) / LEVELS).bfloat16()
        scales[scales < SMALLEST] = 0
        each = scales.float().unsqueeze(1)
        levels = torch.where(each > 0, blocks / each, 0).round().clamp(-LEVELS, LEVELS).to(torch.int8)
        stored[name] = levels.flatten()[: state[name].numel()].view(state[name].shape)
        stored[name + SCALES] = scales
    if SEEN in state:
        stored[SEEN] = pack(state[SEEN], count=len(state[IDF]) - 1)
    return stored


def dequantize(stored: Mapping[str, Tensor], *, slots: int = 0) -> dict[str, Tensor]:
    """What quantize was given, to the nearest level, of a module with so many slots."""
    state = {name: tensor for name, tensor in stored.items() if not name.endswith(SCALES)}
    for name in (name.removesuffix(SCALES) for name in stored if name.endswith(SCALES)):
        weights = _blocks(stored[name].float()) * stored[name + SCALES].float().unsqueeze(1)
        state[name] = weights.flatten()[: stored[name].numel()].view(stored[name].shape)
    if SEEN in stored:
        state[SEEN] = unpack(stored[SEEN], slots=slots, count=len(stored[IDF]) - 1)
    return state


def stored_like(state: Mapping[str, Tensor], *, packed: bool = True) -> dict[str, Tensor]:
    """Tensors of the names, shapes and dtypes that quantize gives, for a state_dict that may have no memory (meta)."""
    like = dict(state)
    for name in _quantized(state):
        like[name] = torch.empty_like(state[name], dtype=torch.int8)
        like[name + SCALES] = state[name].new_empty(-(-state[name].numel() // BLOCK), dtype=torch.bfloat16)
    if packed and SEEN in state:
        like[SEEN] = state[SEEN].new_empty(packed_bytes(8 * len(state[SEEN]), len(state[IDF]) - 1))
    return like


def pack(seen: Tensor, *, count: int) -> Tensor:
    """Which slots are seen, as Elias (1974) and Fano store ascending numbers, unless a bit a slot is less.

    Of each number the low bits follow each other; of the high bits each step up is a 0 and each number a 1.

    Args:
        seen: (slots / 8,) uint8, a bit a slot, the lowest first.
        count: of the bits that are set.
    """
    slots = 8 * len(seen)
    if packed_bytes(slots, count) == len(seen):
        return seen
    numbers, width = np.flatnonzero(np.unpackbits(seen.numpy(), bitorder="little")), _low_bits(slots, count)
    high = np.zeros(count + (slots >> width), dtype=np.uint8)
    high[(numbers >> width) + np.arange(count)] = 1
    low = (numbers[:, np.newaxis] >> np.arange(width) & 1).astype(np.uint8)
    return torch.from_numpy(np.packbits(np.concatenate([high, low.ravel()]), bitorder="little"))


def unpack(packed: Tensor, *, slots: int, count: int) -> Tensor:
    """What pack was given; of what pack never gave, fewer bits than count are set."""
    if 8 * len(packed) == slots:
        return packed
    bits, width = np.unpackbits(packed.numpy(), bitorder="little"), _low_bits(slots, count)
    high, low = np.split(bits[: count + (slots >> width) + count * width], [count + (slots >> width)])
    places = np.flatnonzero(high)[:count]
    steps = places - np.arange(len(places))
    numbers = (steps << width) + (low.reshape(count, width) @ (1 << np.arange(width)))[: len(steps)]
    seen = np.zeros(slots, dtype=np.uint8)
    seen[numbers[numbers < slots]] = 1
    return torch.from_numpy(np.packbits(seen, bitorder="little"))


def packed_bytes(slots: int, count: int) -> int:
    """That pack gives."""
    width = _low_bits(slots, count)
    return min(slots // 8, -(-(count + (slots >> width) + count * width) // 8))


def _low_bits(slots: int, count: int) -> int:
    return (slots // max(1, count)).bit_length() - 1


def _quantized(state: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tensor in state.items() if tensor.ndim > 1 or name in VECTORS]


def _blocks(tensor: Tensor) -> Tensor:
    """(N, BLOCK), the last one filled up with zeros."""
    return F.pad(tensor.flatten(), (0, -tensor.numel() % BLOCK)).view(-1, BLOCK)
