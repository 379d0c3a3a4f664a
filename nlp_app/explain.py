"""What each token of a text adds to its label: exact sums, since both parts of a TextClassifier are piecewise linear.

With the filters, maxima and norms as the text has them, the logits are a sum over its tokens and a constant:
- the convolution, in eval mode, consists of linear layers, ReLU and maxima, so the gradient with respect to a token's
  embedding, times that embedding, is what the token adds (Ancona et al. 2018, "gradient * input");
- the branch over n-grams is linear in their weights: that of each is shared evenly by its occurrences, and that of an
  occurrence by its words or its characters, and what is a word's by the characters of the word.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.encoding import Encoded, reach_of
from nlp_app.explanation import Explanation, TokenContribution
from nlp_app.model import NgramBranch, TextClassifier, max_over_time
from nlp_app.ngram_batch import join
from nlp_app.ngrams import Ngrams, Places, place_ngrams
from nlp_app.places import NOWHERE, Pieces, clean_places, cut
from nlp_app.probabilities import Floats
from nlp_app.tokenizer import Tokenizer, pad

Shares = NDArray[np.float64]


def explain_text(
    text: str, *, module: TextClassifier, tokenizer: Tokenizer, encoded: Encoded, logits: Floats, label: str
) -> Explanation:
    """Explain why a text has a label.

    Args:
        text: as it was given.
        module: in eval mode.
        tokenizer: the module's.
        encoded: the same text, encoded.
        logits: (C,) what the module says of it.
        label: one of the module's.
    """
    config = module.config
    direction = direction_of(config.labels.index(label), config)
    text = text[: reach_of(config)]
    offsets = tokenizer.offsets(text)
    pieces = cut(text, offsets if config.ngram_slots else offsets[: config.max_length])
    of_tokens = token_shares(module, encoded.input_ids, direction)
    shares = pieces.sums(pieces.of_tokens[: len(of_tokens)], of_tokens)
    if module.ngrams is not None:
        shares += _ngram_shares(module, text, encoded.ngrams, pieces, direction)
    tokens = (
        TokenContribution(text[start:end], start, end, share)
        for (start, end), share in zip(pieces.spans, shares.tolist(), strict=True)
    )
    total = logits.astype(np.float64) @ direction.double().numpy()
    return Explanation(label, float(total - shares.sum()), tuple(tokens))


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


def _ngram_shares(module: TextClassifier, text: str, ngrams: Ngrams, pieces: Pieces, direction: Tensor) -> Shares:
    """What each piece adds through n-grams: (P,)."""
    config, branch = module.config, module.ngrams
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
