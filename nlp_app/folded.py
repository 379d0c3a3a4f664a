"""FoldedClassifier: a TextClassifier in eval mode that answers the same, several times as fast on a CPU.

The first convolution sees rows of the embedding only, so what a token adds at each place of a kernel can be computed
once for the whole vocabulary, BatchNorm's scale included. A convolution is then a sum of rows of a table, k a token in
place of k * E * F multiplications; BatchNorm's shift and ReLU come after the maximum over time, which neither changes.

The places of tables are worked out by numpy: on a single text a call of it takes a third of the time of one of torch's.

Shapes as in nlp_app/model.py; V tokens in the vocabulary, k the size of a kernel.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlp_app.config import ModelConfig
from nlp_app.errors import ConfigError
from nlp_app.model import SHAPES_LENGTH, ConvBlock, ConvStack, NgramBranch, TextClassifier, max_over_time
from nlp_app.ngram_batch import NgramBatch
from nlp_app.ngrams import SHAPES, WORDS
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
        sizes, self.tokens = np.array(module.config.kernel_sizes), module.config.vocab_size + 1
        self.reach = int(max(sizes)) // 2
        """Tokens on either side that a window holds."""
        self.places = np.concatenate([np.arange(size) + self.reach - size // 2 for size in sizes])
        self.taps = np.arange(sum(sizes)) * self.tokens
        """(sum of k,) the place in the window that each tap of each kernel reads, and where its rows begin."""
        self.starts = sizes.cumsum() - sizes
        """(K,) the first tap of each kernel."""
        self.branch = None if module.ngrams is None else FoldedNgrams(branch=module.ngrams)
        self.weight, self.bias = module.output.weight.detach().t(), module.output.bias.detach()

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
        logits = torch.addmm(self.bias, self.features(input_ids), self.weight)
        if self.branch is None:
            return logits
        if ngrams is None:
            raise ConfigError("the module has a branch for n-grams, so it must be given them beside input_ids")
        return logits.add_(self.branch(ngrams))

    def features(self, input_ids: Tensor) -> Tensor:
        """As TextClassifier.features: (B, T) -> (B, K*F)."""
        mask = input_ids != PAD_ID
        x = self._convolve(input_ids, mask)
        if not len(self.others):
            return F.relu(x.amax(dim=1).add_(self.shift))
        return max_over_time(self.others(F.relu(x.add_(self.shift)).transpose(1, 2), mask), mask)

    def _convolve(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T) -> (B, T, K*F): the first convolutions times BatchNorm's scale; NEVER at padding."""
        texts, tokens = input_ids.shape
        padded = np.full((texts, tokens + 2 * self.reach), PAD_ID)
        padded[:, self.reach : self.reach + tokens] = input_ids.numpy()
        windows = np.arange(tokens)[:, None] + self.places
        firsts = np.arange(0, padded.size, padded.shape[1])
        rows = padded.take(firsts[:, None, None] + windows)
        rows += self.taps
        np.copyto(rows, self.tokens - 1, where=~mask.numpy()[:, :, None])
        bags = np.arange(0, rows.size, len(self.taps))[:, None] + self.starts
        # F.embedding_bag would look at its arguments for 15 us; mode 0 is the sum.
        places, offsets = torch.from_numpy(rows.ravel()), torch.from_numpy(bags.ravel())
        return torch.embedding_bag(self.table, places, offsets, False, 0)[0].view(texts, tokens, len(self.shift))


class FoldedNgrams:
    """What an NgramBranch gives, to 1e-5."""

    def __init__(self, *, branch: NgramBranch) -> None:
        self.rows, self.idf = branch.rows.numpy(), branch.idf.numpy()
        self.weight, self.bias = branch.weight.detach(), branch.bias.detach()
        self._quarter = len(self.rows).bit_length() - 3
        """Bits of a slot's number within a quarter of the slots."""

    def __call__(self, ngrams: NgramBatch) -> Tensor:
        """(B, C): what the n-grams of each text add to its logits."""
        slots, texts = ngrams.slots.numpy(), ngrams.texts.numpy()
        rows = self.rows.take(slots)
        values = np.log(ngrams.counts.numpy())
        values += 1
        values *= self.idf.take(rows)
        parts = slots >> self._quarter
        np.maximum(parts, WORDS + 1, out=parts)  # words have two quarters
        parts += 4 * texts
        squares = np.bincount(parts, values * values, minlength=4 * len(ngrams.offsets))
        scales = 1 / np.sqrt(np.maximum(squares, 1e-12))
        scales[SHAPES::4] *= SHAPES_LENGTH
        values *= scales.astype(np.float32).take(parts)
        places, weights = torch.from_numpy(rows), torch.from_numpy(values)
        return torch.embedding_bag(self.weight, places, ngrams.offsets, False, 0, False, weights)[0].add_(self.bias)


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
