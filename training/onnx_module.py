"""OnnxModule: a TextClassifier as operations that ONNX has, n-grams included."""

import torch
from torch import Tensor, nn

from nlp_app.model import SHAPES_LENGTH, NgramBranch, TextClassifier
from nlp_app.ngrams import SHAPES, WORDS

PARTS = 4
"""Quarters of the slots."""


class OnnxModule(nn.Module):
    """What the module says of B texts, and how familiar they are, as of nlp_app.scoring."""

    def __init__(self, module: TextClassifier) -> None:
        super().__init__()
        self.module = module
        self.rows = None if module.ngrams is None else Rows(module.ngrams)

    def forward(
        self,
        input_ids: Tensor,
        slots: Tensor | None = None,
        counts: Tensor | None = None,
        texts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and familiarity (B,).

        Args:
            input_ids: (B, T) int64.
            slots: (G,) int64, of the n-grams of all texts, where the module reads them.
            counts: (G,) float32.
            texts: (G,) int64, the text of each n-gram.
        """
        logits = self.module.output(self.module.features(input_ids))
        branch = self.module.ngrams
        if branch is None or self.rows is None or slots is None or counts is None or texts is None:
            return logits, torch.ones_like(logits[:, 0])
        rows = self.rows(slots)
        weights = branch.weight.index_select(0, rows) * scaled(branch, slots, counts, texts, rows, len(logits))
        nothing = torch.zeros_like(logits[:, 0])
        seen = nothing.index_add(0, texts, (rows > 0).float()) / nothing.index_add(0, texts, torch.ones_like(counts))
        return logits.index_add(0, texts, weights) + branch.bias, seen


class Rows(nn.Module):
    """The row of each slot, (G,) -> (G,), from a bit a slot: a table of them all is a fifth of a small model."""

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
        bits = self.seen.index_select(0, places).long() * 8 + (slots - places * 8)
        within = self.within.index_select(0, bits)
        return torch.where(within > 0, within + self.before.index_select(0, places), 0)


def scaled(branch: NgramBranch, slots: Tensor, counts: Tensor, texts: Tensor, rows: Tensor, number: int) -> Tensor:
    """The weight of each n-gram as NgramBranch.weigh has it: (G, 1)."""
    values = (counts.log() + 1) * branch.idf.index_select(0, rows)
    quarters = torch.div(slots, len(branch.rows) // PARTS, rounding_mode="floor")
    parts = quarters.clamp_min(WORDS + 1) + PARTS * texts  # words have two quarters
    squares = values.new_zeros(PARTS * number).index_add(0, parts, values.square())
    lengths = values.new_ones(PARTS)
    lengths[SHAPES] = SHAPES_LENGTH
    scales = squares.clamp_min(1e-12).rsqrt().view(number, PARTS) * lengths
    return (values * scales.view(-1).index_select(0, parts)).unsqueeze(1)
