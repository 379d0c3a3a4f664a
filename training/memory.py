"""Whether a batch fits into memory: an estimate beforehand, and what an error says afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nlp_app.cgroup import CGROUP, memory_left
from nlp_app.config import ModelConfig
from nlp_app.errors import ConfigError
from nlp_app.model import TextClassifier

BACKWARD = 0.7
"""What the backward pass of a block takes on top, in terms of what the block keeps: 0.6 to 0.85 by the profiler."""
COPIES = 5
"""Of the parameters: weights, gradients, AdamW's two moments, the running mean."""
MEMINFO = Path("/proc/meminfo")
SMALLER = "--max-length, --num-filters, --embedding-dim or --vocab-size"
"""What a model that does not fit may have less of."""
SIGNS = (
    "you tried to allocate",  # torch's allocator of the CPU
    "could not create a primitive", "could not create a memory object", "could not execute a primitive",  # oneDNN
    "std::bad_alloc",
    "CUDA error: out of memory",  # outside of torch's allocator: pinned memory, a kernel's stack
    "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip
"""What a RuntimeError says where memory ran out."""


def step_bytes(config: ModelConfig, *, texts: int, tokens: int) -> int:
    """What a plain step on the largest batch needs, about, over what is there before the first one.

    Args:
        config: the model.
        texts: in a batch.
        tokens: T of the longest batch.
    """
    parameters = config.vocab_size * config.embedding_dim  # the rest is small beside it
    kept = texts * tokens * kept_bytes_per_token(config)
    return int(kept * (1 + BACKWARD / config.num_blocks)) + COPIES * 4 * parameters


def kept_bytes_per_token(config: ModelConfig, tokens: int = 64) -> float:
    """What autograd keeps from the forward pass to the backward pass, measured on a model with a small vocabulary."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]):
        module = TextClassifier(config=replace(config, vocab_size=8)).train()
        weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            module(torch.full((4, tokens), 2))
    total = sum(size for place, size in kept.items() if place not in weights)
    return total / (4 * tokens)


def free_bytes(device: torch.device) -> int | None:
    """What a step may still take; None where it cannot be known."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    known = [size for size in (_of_machine(), memory_left(CGROUP)) if size is not None]
    return min(known, default=None)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out: Python's, a GPU's, or that of torch and its libraries on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
    )


@contextmanager
def out_of_memory_said() -> Iterator[None]:
    """Around a whole command: memory that ran out is no bug, so it ends in a sentence.

    Raises:
        ConfigError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(f"out of memory: lower --batch-size, {SMALLER}, or train on fewer texts") from None


def _of_machine() -> int | None:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:  # not Linux
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
