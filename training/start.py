"""What a module starts with in place of chance alone: vectors of words, and what texts without labels taught."""

from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.errors import ConfigError
from nlp_app.model import TextClassifier
from nlp_app.tokenizer import Tokenizer
from training.batches import Rows
from training.console import warn
from training.cooccurrence import COOCCURRENCE, TOKENS, word_vectors
from training.options import Options
from training.pretrain import Unlabelled, pretrain
from training.vectors import FEW, WordVectors

USUAL_DIM = ModelConfig.embedding_dim


@dataclass(kw_only=True)
class Start:
    """The part of a module's state that training begins with; the rest is drawn."""

    vectors: tuple[Tensor, Tensor] | None = None
    """(V, E) rows of the embedding, and (V,) which of them: the others are drawn."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Whole ones by their names in the module's state_dict, which come after the vectors."""
    digests: dict[str, str | None] = field(default_factory=lambda: {"vectors": None, "unlabelled": None})
    """Of what it was made of; a resumed run must have the same."""
    told: dict[str, Any] = field(default_factory=lambda: {"vectors": None, "unlabelled": None})
    """For metrics.json."""

    def put_into(self, module: TextClassifier) -> TextClassifier:
        """The module, begun."""
        if self.vectors is not None:
            rows, chosen = self.vectors
            with torch.no_grad():
                module.embedding.weight[chosen] = rows[chosen]
        module.load_state_dict({**module.state_dict(), **self.tensors})
        return module


def embedding_dim(options: Options, vectors: WordVectors | None) -> int:
    """E: the one that was asked for, the vectors', or the usual.

    Raises:
        ConfigError: another one was asked for than the vectors have.
    """
    asked = options.embedding_dim
    if vectors is None:
        return asked or USUAL_DIM
    if asked not in (None, vectors.dim):
        has = f"the vectors of --vectors {options.vectors} have {vectors.dim} numbers"
        raise ConfigError(f"--embedding-dim is {asked}, but {has}: leave --embedding-dim out")
    return vectors.dim


def make_start(
    options: Options,
    config: ModelConfig,
    tokenizer: Tokenizer,
    train: Rows,
    vectors: WordVectors | None,
    unlabelled: Unlabelled | None,
    console: Console,
) -> Start:
    """Put vectors into the embedding, the user's or those of the words' neighbours; then learn from unlabelled texts.

    Args:
        options: of the run.
        config: of the module.
        tokenizer: of the vocabulary.
        train: the training part.
        vectors: the user's, if any.
        unlabelled: texts, if any.
        console: told of what was found.
    """
    start = Start()
    if vectors is not None:
        tell(vectors, options, console)
        start.vectors = vectors.rows, vectors.has
        start.digests["vectors"], start.told["vectors"] = vectors.digest, {"dim": vectors.dim, "share": vectors.share}
    elif options.embedding_start == COOCCURRENCE:
        more = [] if unlabelled is None else tokenizer.encode(unlabelled.texts, max_length=config.max_length)
        ids = train.input_ids(TOKENS) + [text.input_ids for text in more]
        start.vectors = word_vectors(ids, vocab_size=config.vocab_size, dim=config.embedding_dim, seed=options.seed)
    if unlabelled is not None:
        torch.manual_seed(options.seed)
        module = start.put_into(TextClassifier(config=config))
        start.told["unlabelled"] = pretrain(module, unlabelled, tokenizer, options, console)
        start.digests["unlabelled"] = unlabelled.digest
        state = module.state_dict()
        start.tensors.update({name: state[name] for name in state if name.startswith(("embedding.", "blocks."))})
    return start


def tell(vectors: WordVectors, options: Options, console: Console) -> None:
    """Say how much of the vocabulary has a vector, and warn where it is little."""
    words = f"{int(vectors.has.sum()):,} of the vocabulary's words, {vectors.share:.1%}"
    if vectors.share < FEW:
        remedy = "are they of the same language? the other words start by chance"
        warn(console, f"--vectors {options.vectors} has vectors of only {words}: {remedy}")
    else:
        console.print(f"vectors of {words}, with {vectors.dim} numbers each")
