"""FoldedClassifier: a TextClassifier in eval mode that answers the same, several times as fast on a CPU.

The first convolution sees rows of the embedding only, so what a token adds at each place of a kernel can be computed
once for the whole vocabulary, BatchNorm's scale included. A convolution is then a sum of rows of a table, k a token in
place of k * E * F multiplications; BatchNorm's shift and ReLU come after the maximum over time, which neither changes.

Shapes as in nlp_app/model.py; V tokens in the vocabulary, k the size of a kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlp_app.config import ModelConfig
from nlp_app.model import ConvBlock, ConvStack, NgramBranch, TextClassifier, max_over_time
from nlp_app.ngrams import NgramBatch
from nlp_app.tokenizer import PAD_ID

MOST_FLOATS = 1 << 25
"""Numbers in the tables at most, 128 MiB; 30,000 tokens of the default model take 17 million."""
NEVER = -1e30
"""Stands where there is no token, so that it is no maximum, and ReLU makes zero of it."""


def fold(module: TextClassifier) -> "TextClassifier | FoldedClassifier":
    """The module folded where that pays: on a CPU, with tables that are not too large."""
    config = module.config
    floats = config.vocab_size * sum(config.kernel_sizes) * config.num_filters
    return FoldedClassifier(module=module) if module.device.type == "cpu" and floats <= MOST_FLOATS else module


class FoldedClassifier(nn.Module):
    """What logits() of a TextClassifier gives, to 1e-5; later changes of the module's first block are not seen."""

    def __init__(self, *, module: TextClassifier) -> None:
        super().__init__()
        self.module = module
        first, *others = module.blocks
        assert isinstance(first, ConvBlock)
        self.table = _table(module.embedding.weight.detach(), first)
        self.shift = _scale_and_shift(first)[1]
        self.others = ConvStack(*others)
        sizes, self.tokens = module.config.kernel_sizes, module.config.vocab_size + 1
        self.reach = max(sizes) // 2
        """Tokens on either side that a window holds."""
        places = [torch.arange(size) + self.reach - size // 2 for size in sizes]
        self.places, self.taps = torch.cat(places), torch.arange(0, sum(sizes) * self.tokens, self.tokens)
        """(sum of k,) the place in the window that each tap of each kernel reads, and where its rows begin."""
        self.starts = torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)
        """(K,) the first tap of each kernel."""

    @property
    def config(self) -> ModelConfig:
        """The module's config."""
        return self.module.config

    @property
    def ngrams(self) -> NgramBranch | None:
        """The module's branch."""
        return self.module.ngrams

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.device

    def logits(self, input_ids: Tensor, ngrams: NgramBatch | None = None) -> Tensor:
        """As TextClassifier.logits: (B, T) -> (B, C)."""
        return self.module.head(self.features(input_ids), ngrams)

    def features(self, input_ids: Tensor) -> Tensor:
        """As TextClassifier.features: (B, T) -> (B, K*F)."""
        mask = input_ids != PAD_ID
        x = self._convolve(input_ids, mask)
        if not len(self.others):
            return F.relu(x.amax(dim=1).add_(self.shift))
        return max_over_time(self.others(F.relu(x.add_(self.shift)).transpose(1, 2), mask), mask)

    def _convolve(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T) -> (B, T, K*F): the first convolutions times BatchNorm's scale; NEVER at padding."""
        windows = F.pad(input_ids, (self.reach, self.reach), value=PAD_ID).unfold(1, 2 * self.reach + 1, 1)
        rows = windows[:, :, self.places].add_(self.taps)
        rows.masked_fill_(~mask.unsqueeze(2), self.tokens - 1)
        bags = torch.arange(0, rows.numel(), len(self.taps)).unsqueeze(1) + self.starts
        sums = F.embedding_bag(rows.view(-1), self.table, bags.view(-1), mode="sum")
        return sums.view(*input_ids.shape, len(self.shift))


def _table(embedding: Tensor, block: ConvBlock) -> Tensor:
    """What a token adds at each tap of each kernel, V + 1 rows a tap, the last one NEVER: (sum of k * (V + 1), F)."""
    scales = _scale_and_shift(block)[0].chunk(len(block.convolutions))
    tables = []
    for convolution, scale in zip(block.convolutions, scales, strict=True):
        assert isinstance(convolution, nn.Conv1d)
        weight = convolution.weight.detach() * scale[:, None, None]
        tables.append(F.pad(torch.einsum("ve,fek->kvf", embedding, weight), (0, 0, 0, 1), value=NEVER))
    return torch.cat(tables).flatten(0, 1)


def _scale_and_shift(block: ConvBlock) -> tuple[Tensor, Tensor]:
    """BatchNorm in eval mode is y * scale + shift: (K*F,) each."""
    norm = block.norm[0]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias.detach() - norm.running_mean * scale
