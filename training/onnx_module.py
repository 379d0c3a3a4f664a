"""OnnxModule: a TextClassifier as operations that ONNX has, n-grams included.

The n-grams of a batch are padded to one number. One after the other, as the module reads them, ScatterND would add them
up, whose sums ONNX Runtime gets wrong where several threads add to one place (onnxruntime#18048).
"""

import torch
from torch import Tensor, nn

from nlp_app.model import SHAPES_LENGTH, NgramBranch, TextClassifier
from nlp_app.ngrams import CHARACTERS, SHAPES, WORDS

LENGTHS = {WORDS + 1: 1.0, CHARACTERS: 1.0, SHAPES: SHAPES_LENGTH}
"""Of each part of a text's n-grams, by the last quarter of the slots that is its own."""


class OnnxModule(nn.Module):
    """What the module says of B texts, and how familiar they are, as of nlp_app.scoring."""

    def __init__(self, module: TextClassifier) -> None:
        super().__init__()
        self.module = module
        self.rows = None if module.ngrams is None else Rows(module.ngrams)

    def forward(
        self, input_ids: Tensor, slots: Tensor | None = None, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and familiarity (B,).

        Args:
            input_ids: (B, T) int64.
            slots: (B, G) int64, of the n-grams of each text, where the module reads them.
            counts: (B, G) float32; 0 where a text has fewer.
        """
        logits = self.module.output(self.module.features(input_ids))
        branch = self.module.ngrams
        if branch is None or self.rows is None or slots is None or counts is None:
            return logits, torch.ones_like(logits[:, 0])
        rows, there = self.rows(slots), (counts > 0).float()
        values = (counts.clamp_min(1).log() + 1) * branch.idf[rows] * there
        quarters = torch.div(slots, 8 * len(branch.seen) // 4, rounding_mode="floor").clamp_min(WORDS + 1)
        added = torch.matmul(scaled(values, quarters).unsqueeze(1), branch.weight[rows]).squeeze(1)
        seen = ((rows > 0).float() * there).sum(dim=1) / there.sum(dim=1)
        return logits + added + branch.bias, seen


def scaled(values: Tensor, quarters: Tensor) -> Tensor:
    """The weights of n-grams, each part of a text divided by its Euclidean norm: (B, G), (B, G) -> (B, G)."""
    found = torch.zeros_like(values)
    for quarter, length in LENGTHS.items():
        of_part = values * (quarters == quarter).float()
        found = found + of_part * (length * of_part.square().sum(dim=1, keepdim=True).clamp_min(1e-12).rsqrt())
    return found


class Rows(nn.Module):
    """The row of each slot, (B, G) -> (B, G), from a bit a slot: a table of them all is a fifth of a small model."""

    seen: Tensor
    """(slots / 8,) uint8, as of NgramBranch."""
    before: Tensor
    """(slots / 8,) int32, the slots that are seen before each byte."""
    within: Tensor
    """(256 * 8,) int64, for a byte and a bit the bits that are set up to it; 0 where it is not."""

    def __init__(self, branch: NgramBranch) -> None:
        super().__init__()
        bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
        counts = bits.sum(dim=1)[branch.seen.long()]
        self.register_buffer("seen", branch.seen)
        self.register_buffer("before", (counts.cumsum(dim=0) - counts).to(torch.int32))
        self.register_buffer("within", (bits * bits.cumsum(dim=1)).flatten())

    def forward(self, slots: Tensor) -> Tensor:
        """As rows[slots] of NgramBranch, int64."""
        places = torch.div(slots, 8, rounding_mode="floor")
        within = self.within[self.seen[places].long() * 8 + (slots - places * 8)]
        return torch.where(within > 0, within + self.before[places], 0)
