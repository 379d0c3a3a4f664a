"""Forward and backward of one batch, as the recipe says: whole or in parts, in float32 or bfloat16, plain or compiled.

Where memory runs out, the same batch is tried again with less of it, and nothing of the failed try is left.
"""

import gc
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from nlp_app.errors import ConfigError
from nlp_app.model import TextClassifier
from nlp_app.tokenizer import PAD_ID, UNK_ID
from training.exact import backward_exact
from training.memory import SMALLER, is_out_of_memory
from training.recipe import Recipe
from training.recompute import recompute_blocks, recomputes
from training.sharding import Parts, backward_fast, backward_whole, split

PRECISIONS = ("auto", "float32", "bf16")


class GradientStep:
    """Puts the gradient of a batch's loss on a module's parameters."""

    def __init__(
        self, *, module: TextClassifier, recipe: Recipe, device: torch.device, say: Callable[[str], None]
    ) -> None:
        self._module = module
        self._recipe = recipe
        # Found once: looking for them at every step takes 2 % of a step on short texts.
        self._buffers, self._parameters = list(module.buffers()), list(module.parameters())
        self._say = say
        self._at_once = recipe.micro_batch_size
        self._exact = recipe.sharding == "exact"
        # A single text may be a single token, of which BatchNorm can take no variance.
        self._least = 1 if self._exact else 2
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(recipe.precision, device))
        # Lengths differ from batch to batch: without dynamic=True each would be compiled anew.
        self._whole = torch.compile(module, dynamic=True) if recipe.compile else module
        if recipe.gradient_checkpointing == "blocks":
            recompute_blocks(module)

    def __call__(self, input_ids: Tensor, targets: Tensor, *, seed: int) -> float:
        """The batch's loss; the gradients that were there before are gone.

        Args:
            input_ids: (B, T) int64, padded, on the module's device.
            targets: (B,) int64.
            seed: of what is drawn: token dropout, then dropout.

        Raises:
            ConfigError: not even the smallest part fits into the memory.
        """
        buffers = [buffer.clone() for buffer in self._buffers]
        while True:
            try:
                return self._attempt(input_ids, targets, seed)
            except (RuntimeError, MemoryError):
                if not is_out_of_memory(sys.exception()):
                    raise
            # Outside of the except block, where the error would hold the frames and they the tensors (pytorch#27600).
            self._clean_up(buffers)
            self._use_less(len(input_ids), input_ids.shape[1])

    def _attempt(self, input_ids: Tensor, targets: Tensor, seed: int) -> float:
        self._forget_gradients()
        seed_generator(seed, input_ids.device)
        input_ids = drop_tokens(input_ids, self._recipe.token_dropout)
        loss, at_once = self._recipe.loss, self._at_once or len(input_ids)
        slices = split(len(input_ids), at_once, at_least=self._least)
        with self._autocast:
            if len(slices) == 1:
                return backward_whole(self._whole, loss, input_ids, targets)
            parts = Parts(module=self._module, loss=loss, input_ids=input_ids, targets=targets, slices=slices)
            return backward_exact(parts) if self._exact else backward_fast(parts)

    def _clean_up(self, buffers: list[Tensor]) -> None:
        self._forget_gradients()
        with torch.no_grad():
            for buffer, before in zip(self._buffers, buffers, strict=True):
                buffer.copy_(before)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def _use_less(self, texts: int, tokens: int) -> None:
        """Recompute blocks where that may help, else halve the parts; the batch and its update stay what they are."""
        now = min(self._at_once or texts, texts)
        if self._may_recompute(in_parts=now < texts):
            recompute_blocks(self._module)
            self._say("out of memory: from here on with gradient checkpointing, and the same updates")
            return
        if now <= self._least:
            fit = f"not even {now} of {texts} texts of {tokens} tokens fit at once"
            raise ConfigError(f"out of memory: {fit}: lower {self._remedy()}")
        self._at_once = max(self._least, -(-now // 2))
        same = "the same updates" if self._exact else "BatchNorm sees each part alone"
        self._say(f"out of memory: from here on each batch is split into parts of {self._at_once} texts; {same}")

    def _may_recompute(self, *, in_parts: bool) -> bool:
        """Whether gradient checkpointing is left open and would help, as it does not in exact parts, which use none."""
        deep = len(self._module.blocks) > 1 and not recomputes(self._module)
        return self._recipe.gradient_checkpointing == "auto" and deep and not (in_parts and self._exact)

    def _remedy(self) -> str:
        if self._exact and len(self._module.blocks) > 1:  # what lies between blocks is kept for the whole batch
            return f"--batch-size, or give --sharding fast, or lower {SMALLER}"
        return SMALLER


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether autocast is on; auto: on a GPU that computes in bfloat16, where it was not slower."""
    return precision == "bf16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )


def seed_generator(seed: int, device: torch.device) -> None:
    """Seed the generator that the device draws from; torch.manual_seed, which seeds all there are, takes 0.2 ms."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def drop_tokens(input_ids: Tensor, share: float) -> Tensor:
    """Replace a share of the real tokens, drawn from torch's generator, by UNK_ID: (B, T) -> (B, T)."""
    dropped = (torch.rand(input_ids.shape, device=input_ids.device) < share) & (input_ids != PAD_ID)
    return input_ids.masked_fill(dropped, UNK_ID)
