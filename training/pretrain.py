"""Learn from texts without labels before training: a share of the words is hidden, and guessed from their neighbours.

A hidden word is UNK, as in token dropout; the guess is a linear function of the blocks' output at its place, multiplied
with the embedding's own rows (Devlin et al., "BERT", 2018, section 3.1; rows shared as in Press and Wolf, 2017).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from nlp_app.device import find_device
from nlp_app.errors import DataError
from nlp_app.formats import FORMATS
from nlp_app.model import TextClassifier
from nlp_app.packing import plain_suffix
from nlp_app.tables import column_names, read_texts
from nlp_app.tokenizer import SPECIAL_TOKENS, UNK_ID, Tokenizer, pad
from training.batches import epoch_batches, steps_per_epoch
from training.columns import LABELS
from training.console import warn
from training.data import count_of
from training.options import Options

HIDDEN = 0.15
WORDS = 4096
"""That are guessed, the most frequent; others are never hidden, but are read."""
FIRST = len(SPECIAL_TOKENS)
EPOCHS = 20
TOKENS = 3_000_000
"""Read at most, all epochs together."""
LENGTH = 128
"""Tokens of a text that are read."""
BATCH_SIZE = 64
RATE = 2e-3


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """Texts without labels, none of them blank."""

    texts: list[str]
    digest: str
    """SHA-256 of the texts."""


def read_unlabelled(path: Path, options: Options) -> Unlabelled:
    """Read a table's column of texts, or a text a line of a file of any other name.

    Raises:
        DataError: the file cannot be used, has labels, or holds no text.
    """
    if plain_suffix(path) in FORMATS:
        labels = {*LABELS, options.label_column} - {*options.text_column}
        if named := [name for name in column_names(path, every=True, encoding=options.encoding) if name in labels]:
            raise DataError(
                f"{path} has a column {named[0]!r}, but --unlabelled takes texts without labels: "
                "drop the column, or give the file as --train"
            )
    texts = [text for text in read_texts(path, options.text_columns, encoding=options.encoding) if text.strip()]
    if len(texts) < 2:
        raise DataError(f"{path} holds {count_of(texts, 'text')} not blank: --unlabelled needs 2 or more")
    return Unlabelled(texts=texts, digest=hashlib.sha256(json.dumps(texts).encode()).hexdigest())


def pretrain(
    module: TextClassifier, unlabelled: Unlabelled, tokenizer: Tokenizer, options: Options, console: Console
) -> dict[str, Any]:
    """Train embedding and blocks in place; the same texts and seed give the same weights.

    Returns:
        For metrics.json: how much was read, and the mean loss of the first and of the last tenth of the steps, which
        is None where no text has a word of the vocabulary to be guessed.
    """
    encoded = tokenizer.encode(unlabelled.texts, max_length=min(LENGTH, options.max_length))
    rows = [tokens.input_ids for tokens in encoded]
    tokens = sum(map(len, rows))
    counts = torch.bincount(torch.from_numpy(np.concatenate(rows)), minlength=FIRST + WORDS)
    if not counts[FIRST : FIRST + WORDS].any():
        warn(console, "--unlabelled: no text has a word of the vocabulary, so nothing was learnt from them")
        return {"texts": len(rows), "tokens": tokens, "steps": 0, "loss": None}
    steps = max(1, round(steps_per_epoch(len(rows), BATCH_SIZE) * min(EPOCHS, TOKENS / tokens)))
    console.print(f"learning from {len(rows):,} unlabelled texts, {tokens:,} tokens: {steps:,} steps")
    guesser = Guesser(module=module, counts=counts).to(find_device(options.device)).train()
    losses = _train(guesser, rows, steps, options.seed)
    module.cpu()
    tenth = -(-steps // 10)
    first, last = fmean(losses[:tenth]), fmean(losses[-tenth:])
    console.print(f"the loss of guessing hidden words went from {first:.2f} to {last:.2f}")
    return {"texts": len(rows), "tokens": tokens, "steps": steps, "loss": [first, last]}


class Guesser(nn.Module):
    """A module's embedding and blocks, with what guesses hidden words from them."""

    def __init__(self, *, module: TextClassifier, counts: Tensor) -> None:
        super().__init__()
        self.module = module
        self.words = min(WORDS, module.config.vocab_size - FIRST)
        self.to_vector = nn.Linear(module.output.in_features, module.config.embedding_dim)
        # A word's frequency is known from the start, so that its vector has not to learn it.
        self.bias = nn.Parameter(torch.log(counts[FIRST : FIRST + self.words] + 1.0))

    def forward(self, input_ids: Tensor) -> Tensor:
        """The mean loss of the words that it hides: (B, T) -> ()."""
        known = (input_ids >= FIRST) & (input_ids < FIRST + self.words)
        hidden = known & (torch.rand(input_ids.shape, device=input_ids.device) < HIDDEN)
        features = self.module.blocks(*self.module.embed(input_ids.masked_fill(hidden, UNK_ID)))
        vectors = self.to_vector(features.transpose(1, 2)[hidden])
        logits = vectors @ self.module.embedding.weight[FIRST : FIRST + self.words].T + self.bias
        return F.cross_entropy(logits, input_ids[hidden] - FIRST, reduction="sum") / hidden.sum().clamp(min=1)


def _train(guesser: Guesser, rows: Sequence[NDArray[np.int32]], steps: int, seed: int) -> list[float]:
    """Take so many steps, at a rate that falls to zero; gives the loss of each."""
    optimizer = torch.optim.AdamW(guesser.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / steps, total_iters=steps)
    losses = []
    for batch in islice(_batches([len(row) for row in rows], seed), steps):
        loss = guesser(torch.from_numpy(pad([rows[row] for row in batch])).to(guesser.bias.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def _batches(lengths: Sequence[int], seed: int) -> Iterator[NDArray[np.int64]]:
    """Epoch after epoch, without an end."""
    for epoch in count():
        yield from epoch_batches(lengths, batch_size=BATCH_SIZE, seed=seed, epoch=epoch)
