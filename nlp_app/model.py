"""TextClassifier: a 1D-convolution text classifier with batch normalisation.

Shapes: B texts, T tokens (padded), E embedding, F filters a kernel size, K kernel sizes, C classes.

    input_ids (B, T) -> embedding (B, T, E) -> blocks (B, K*F, T) -> max over time (B, K*F) -> logits (B, C)

Where the config has rows for n-grams, a linear branch over them is added to the logits (nlp_app/ngrams.py).

Padding never changes an answer: the statistics of BatchNorm, the output of every block and the maximum over time
see real tokens only. So a text gets the same logits alone as in any batch (pytorch#70529 is what happens otherwise).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlp_app.config import ModelConfig
from nlp_app.errors import ConfigError
from nlp_app.ngram_batch import NgramBatch
from nlp_app.ngrams import SHAPES
from nlp_app.tokenizer import PAD_ID

EMBEDDING_STD = 0.1
SHAPES_LENGTH = 0.7
"""Of the shapes in a text, where words and characters have 1 (docs/decisions.md)."""


class ConvBlock(nn.Module):
    """Convolutions of several kernel sizes side by side, then BatchNorm and ReLU: (B, in, T) -> (B, K*F, T).

    A residual block adds its input, which must have as many channels.
    """

    def __init__(
        self, *, in_channels: int, num_filters: int, kernel_sizes: tuple[int, ...], residual: bool = False
    ) -> None:
        super().__init__()
        self.residual = residual
        self.out_channels = num_filters * len(kernel_sizes)
        # No bias: BatchNorm subtracts it again, so its gradient is zero and AdamW would turn that into noise.
        self.convolutions = nn.ModuleList(
            nn.Conv1d(in_channels, num_filters, size, padding=size // 2, bias=False) for size in kernel_sizes
        )
        self.norm = nn.Sequential(nn.BatchNorm1d(self.out_channels), nn.ReLU(inplace=True))

    def convolve(self, x: Tensor) -> Tensor:
        """What BatchNorm is given: (B, in, T) -> (B, K*F, T)."""
        length = x.shape[2]  # an even kernel with padding size // 2 gives one position too many
        return torch.cat([convolution(x)[:, :, :length] for convolution in self.convolutions], dim=1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Look at each token with its neighbours.

        Args:
            x: (B, in, T), zero where mask is False.
            mask: (B, T) bool, True = real token; in training at least two of the batch.

        Returns:
            (B, K*F, T), zero where mask is False.
        """
        y = self.convolve(x)
        if self.training:
            y = self._norm_of_tokens(y, mask)
        else:  # the running statistics are the same for every position: no need to take the tokens out
            y = self.norm(y).masked_fill(~mask.unsqueeze(1), 0.0)
        return x + y if self.residual else y

    def _norm_of_tokens(self, y: Tensor, mask: Tensor) -> Tensor:
        """BatchNorm over the real tokens alone, given to it as rows (N, K*F): padding is in no mean, no variance.

        What is put back between them is zero. BatchNorm would have made padding beta - gamma * mean / std, to leak
        through the next convolution and the maximum.
        """
        tokens = self.norm(y.transpose(1, 2)[mask])
        y = tokens.new_zeros(y.shape[0], y.shape[2], y.shape[1])
        y[mask] = tokens
        return y.transpose(1, 2)


class ConvStack(nn.Sequential):
    """nn.Sequential of ConvBlocks that hands the mask to each."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """(B, E, T), (B, T) -> (B, K*F, T)."""
        for block in self:
            x = block(x, mask)
        return x


def max_over_time(x: Tensor, mask: Tensor) -> Tensor:
    """The largest value of each channel over the real tokens: (B, F, T), (B, T) -> (B, F)."""
    return x.masked_fill(~mask.unsqueeze(1), float("-inf")).amax(dim=2)


class NgramBranch(nn.Module):
    """Linear over the TF-IDF of hashed n-grams: B texts with G n-grams in all -> (B, C).

    An n-gram that occurs n times weighs (1 + log n) * idf; the weights of a text's words, those of its characters and
    those of its shapes are each divided by their Euclidean norm. Slots that no training text filled share row 0, which
    is zero; the others have their rows in ascending order, so that a bit each is all that is stored of them.
    """

    seen: Tensor
    """(slots / 8,) uint8, a bit a slot, the lowest first: whether the slot has a row of its own."""
    idf: Tensor
    rows: Tensor
    """(slots,) int32, what `seen` says: the row of each slot."""

    def __init__(self, *, slots: int, rows: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(slots // 8, dtype=torch.uint8))
        self.register_buffer("idf", torch.zeros(rows))
        self.register_buffer("rows", torch.zeros(slots, dtype=torch.int32), persistent=False)
        self.weight = nn.Parameter(torch.zeros(rows, classes))
        self.bias = nn.Parameter(torch.zeros(classes))
        self.register_load_state_dict_post_hook(lambda module, _: module.number_rows())  # type: ignore[no-untyped-call]

    def number_rows(self) -> None:
        """Make `rows` of `seen`.

        Raises:
            ConfigError: there are more or fewer slots seen than rows.
        """
        bits = np.unpackbits(self.seen.cpu().numpy(), bitorder="little")
        if (count := int(bits.sum())) != len(self.idf) - 1:
            raise ConfigError(f"{count:,} slots of n-grams are seen, but there are rows for {len(self.idf) - 1:,}")
        rows = bits * np.cumsum(bits, dtype=np.int32)
        self.rows = torch.from_numpy(rows).to(self.seen.device)

    def forward(self, ngrams: NgramBatch) -> Tensor:
        """(B, C): what the n-grams of each text add to its logits."""
        rows, values = self.weigh(ngrams)
        summed = F.embedding_bag(rows, self.weight, ngrams.offsets, mode="sum", per_sample_weights=values)
        return summed + self.bias

    def weigh(self, ngrams: NgramBatch) -> tuple[Tensor, Tensor]:
        """The row (G,) int32 and the weight (G,) of each n-gram."""
        rows = self.rows.index_select(0, ngrams.slots)
        values = ngrams.counts.log().add_(1).mul_(self.idf.index_select(0, rows))
        quarters = ngrams.slots.bitwise_right_shift(len(self.rows).bit_length() - 3)
        parts = quarters.clamp_min_(1).add_(ngrams.texts, alpha=4)  # words have two of them
        squares = values.new_zeros(4 * len(ngrams.offsets)).index_add_(0, parts, values.square())
        scales = squares.clamp_min_(1e-12).rsqrt_()
        scales[SHAPES::4] *= SHAPES_LENGTH
        return rows, values.mul_(scales.index_select(0, parts))


class TextClassifier(nn.Module):
    """Embedding, convolution blocks, max over time, dropout, linear: (B, T) int64 -> (B, C)."""

    def __init__(self, *, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_dim, padding_idx=PAD_ID)
        blocks: list[ConvBlock] = []
        channels = config.embedding_dim
        for number in range(config.num_blocks):
            block = ConvBlock(
                in_channels=channels,
                num_filters=config.num_filters,
                kernel_sizes=config.kernel_sizes,
                residual=number > 0,
            )
            blocks.append(block)
            channels = block.out_channels
        self.blocks = ConvStack(*blocks)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(channels, config.num_classes)
        self.ngrams = (
            NgramBranch(slots=config.ngram_slots, rows=config.ngram_rows, classes=config.num_classes)
            if config.ngram_rows
            else None
        )
        self._initialise()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.output.weight.device

    def forward(self, input_ids: Tensor, ngrams: NgramBatch | None = None) -> Tensor:
        """Score each class.

        Args:
            input_ids: (B, T) int64, padded with PAD_ID; every row has at least one real token.
            ngrams: of the same B texts, for a module that has a branch for them.

        Returns:
            (B, C) logits, or their log-softmax where config.output is "log_probabilities".
        """
        return self.ending(self.logits(input_ids, ngrams))

    def ending(self, logits: Tensor) -> Tensor:
        """What forward makes of the logits: (B, C) -> (B, C), float32 at least, since a loss sums exponentials."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.log_softmax(logits, dim=1) if self.config.output == "log_probabilities" else logits

    def logits(self, input_ids: Tensor, ngrams: NgramBatch | None = None) -> Tensor:
        """(B, T) -> (B, C) logits, whatever forward ends in: all that is served is a function of these."""
        return self.head(self.features(input_ids), ngrams)

    def head(self, features: Tensor, ngrams: NgramBatch | None) -> Tensor:
        """What is made of the features: (B, K*F) -> (B, C) logits."""
        logits: Tensor = self.output(self.dropout(features))
        if self.ngrams is None:
            return logits
        if ngrams is None:
            raise ConfigError("the module has a branch for n-grams, so it must be given them beside input_ids")
        added: Tensor = self.ngrams(ngrams)
        return logits + added

    def features(self, input_ids: Tensor) -> Tensor:
        """(B, T) -> (B, K*F): the largest value of each filter over a text's tokens."""
        x, mask = self.embed(input_ids)
        return max_over_time(self.blocks(x, mask), mask)

    def embed(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the first block is given: (B, T) -> x (B, E, T) and mask (B, T)."""
        # THE transpose: an embedding puts channels last (B, T, E), Conv1d wants them in the middle (B, E, T).
        return self.embedding(input_ids).transpose(1, 2), input_ids != PAD_ID

    def _initialise(self) -> None:
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        nn.init.zeros_(self.embedding.weight[PAD_ID])
        nn.init.zeros_(self.output.bias)
