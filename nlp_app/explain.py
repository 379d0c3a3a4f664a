"""What each token of a text adds to its label: exact sums, since both parts of a TextClassifier are piecewise linear.

With the filters, maxima and norms as the text has them, the logits are a sum over its tokens and a constant:
- the convolution, in eval mode, consists of linear layers, ReLU and maxima, so the gradient with respect to a token's
  embedding, times that embedding, is what the token adds (Ancona et al. 2018, "gradient * input");
- the branch over n-grams is linear in their weights: that of each is shared evenly by its occurrences, and that of an
  occurrence by its words or its characters, and what is a word's by the characters of the word.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nlp_app.checkpoint import Checkpoint
from nlp_app.config import ModelConfig
from nlp_app.encoding import Encoded, reach_of
from nlp_app.model import NgramBranch, TextClassifier, max_over_time
from nlp_app.ngrams import Ngrams, Places, join, place_ngrams
from nlp_app.places import NOWHERE, Pieces, clean_places, cut
from nlp_app.tokenizer import pad

Shares = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TokenContribution:
    """What a token adds."""

    token: str
    """As it stands in the text."""
    start: int
    """Its first character in the text."""
    end: int
    """The character after its last."""
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a label: baseline and contributions sum to what sets the label apart.

    That is its logit minus the mean of all logits, or its logit where a text may have several labels.
    """

    label: str
    baseline: float
    """What belongs to no token."""
    tokens: tuple[TokenContribution, ...]
    """All that the model reads, in the order of the text."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"tokens": [asdict(token) for token in self.tokens]}


def explain_text(checkpoint: Checkpoint, text: str, *, encoded: Encoded, logits: Tensor, label: str) -> Explanation:
    """Explain why a text has a label.

    Args:
        checkpoint: the model.
        text: as it was given.
        encoded: the same text, encoded.
        logits: (C,) what the model says of it.
        label: one of the model's.
    """
    config = checkpoint.config
    direction = direction_of(config.labels.index(label), config)
    text = text[: reach_of(config)]
    offsets = checkpoint.tokenizer.offsets(text)
    pieces = cut(text, offsets if config.ngram_slots else offsets[: config.max_length])
    of_tokens = token_shares(checkpoint.module, encoded.input_ids, direction)
    shares = pieces.sums(pieces.of_tokens[: len(of_tokens)], of_tokens)
    if checkpoint.module.ngrams is not None:
        shares += _ngram_shares(checkpoint, text, encoded.ngrams, pieces, direction)
    tokens = (
        TokenContribution(text[start:end], start, end, share)
        for (start, end), share in zip(pieces.spans, shares.tolist(), strict=True)
    )
    return Explanation(label, float(logits.double() @ direction.double() - shares.sum()), tuple(tokens))


def direction_of(label: int, config: ModelConfig) -> Tensor:
    """(C,) what logits are multiplied with to give what sets a label apart: softmax ignores their mean."""
    own = F.one_hot(torch.tensor(label), config.num_classes).float()
    return own if config.multi_label else own - 1 / config.num_classes


def token_shares(module: TextClassifier, input_ids: NDArray[np.int32], direction: Tensor) -> Shares:
    """What each token adds through the convolution to logits @ direction: (T,), (C,) -> (T,)."""
    device = module.device
    with torch.enable_grad():
        x, mask = module.embed(torch.from_numpy(pad([input_ids])).to(device))
        x = x.detach().requires_grad_()
        logits = module.output(max_over_time(module.blocks(x, mask), mask))
        (gradient,) = torch.autograd.grad((logits @ direction.to(device)).sum(), x)
    shares: Shares = (gradient * x.detach()).double().sum(dim=1)[0, : len(input_ids)].cpu().numpy()
    return shares


def _ngram_shares(checkpoint: Checkpoint, text: str, ngrams: Ngrams, pieces: Pieces, direction: Tensor) -> Shares:
    """What each piece adds through n-grams: (P,)."""
    config, branch = checkpoint.config, checkpoint.module.ngrams
    assert branch is not None
    placed = place_ngrams(text, num_slots=config.ngram_slots, char_orders=config.ngram_orders)
    effects, of_characters = occurrence_effects(branch, ngrams, direction), pieces.of_characters(clean_places(text))
    starts, stops = placed.spans.T
    of_words = _summed(placed.of_words, ngrams.slots, effects, len(starts)) / np.maximum(stops - starts, 1)
    shares = _summed(placed.of_characters, ngrams.slots, effects, len(of_characters))
    for word, (start, stop) in enumerate(placed.spans):
        shares[start:stop] += of_words[word]  # a word's share is its characters' alike
    return pieces.sums(of_characters, shares)


def _summed(placed: Sequence[Places], slots: NDArray[np.int32], effects: Shares, units: int) -> Shares:
    """What each unit - a word, a character - gets of the n-grams that it is part of: (U,)."""
    shares = np.zeros(units)
    for found, parts in placed:
        there = parts != NOWHERE
        each = effects[np.searchsorted(slots, found)] / np.maximum(there.sum(axis=1), 1)
        np.add.at(shares, parts[there], np.broadcast_to(each[:, None], parts.shape)[there])
    return shares


def occurrence_effects(branch: NgramBranch, ngrams: Ngrams, direction: Tensor) -> Shares:
    """What one occurrence of each n-gram adds to logits @ direction, given the norm of the text: (G,)."""
    device = branch.weight.device
    with torch.inference_mode():
        rows, values = branch.weigh(join([ngrams]).to(device))
        effects = (values * (branch.weight[rows] @ direction.to(device))).double().cpu().numpy()
    shared: Shares = effects / ngrams.counts
    return shared
