"""Golden inputs: texts with the answers that the module gave when it was saved, asked again at every load.

They prove the whole path at once: tokenizer, weights, buffers, and the libraries of the machine that loads.
They are random words of the vocabulary, so no text of a user is ever written into a checkpoint.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nlp_app.config import ModelConfig
from nlp_app.encoding import encode
from nlp_app.errors import CheckpointError
from nlp_app.probabilities import Ask, Floats, to_probabilities
from nlp_app.tokenizer import UNK_ID, Tokenizer

WORD_COUNTS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55)
TOLERANCE = 1e-4


def random_texts(tokenizer: Tokenizer, word_counts: Iterable[int]) -> list[str]:
    """Texts of so many words of the vocabulary each, the same for the same one."""
    draw = random.Random(0)
    tokens = [tokenizer.token(token_id) for token_id in range(UNK_ID + 1, tokenizer.vocab_size)] or [""]
    return [" ".join(draw.choices(tokens, k=count)) for count in word_counts]


def make_golden(ask: Ask, *, tokenizer: Tokenizer, config: ModelConfig) -> dict[str, Any]:
    """Ask the module: {"examples": [{"text", "label", "score"}, …]}, the same for the same model."""
    texts = random_texts(tokenizer, WORD_COUNTS)
    rows = probabilities(ask, texts, tokenizer=tokenizer, config=config)
    return {
        "examples": [
            {"text": text, "label": config.labels[index], "score": float(row[index])}
            for text, row, index in zip(texts, rows, rows.argmax(axis=1).tolist(), strict=True)
        ]
    }


def check_golden(ask: Ask, golden: Mapping[str, Any], *, tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Raise a CheckpointError unless the module answers as it did when it was saved, within TOLERANCE.

    The score of the golden label is compared, not the label: two classes may be as good as equal.
    """
    labels = {label: index for index, label in enumerate(config.labels)}
    try:
        examples = [
            (example["text"], labels[example["label"]], float(example["score"])) for example in golden["examples"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise CheckpointError("golden.json does not hold texts with a label of the model and a score") from None
    if not examples:
        raise CheckpointError("golden.json holds no example")
    rows = probabilities(ask, [text for text, _, _ in examples], tokenizer=tokenizer, config=config).tolist()
    for (text, label, expected), row in zip(examples, rows, strict=True):
        if not abs(row[label] - expected) <= TOLERANCE:
            raise CheckpointError(
                f"the golden input {text!r} scores {row[label]:.6f} for {config.labels[label]!r}, but scored "
                f"{expected:.6f} when the model was saved: the weights or a library of this machine differ"
            )


def probabilities(ask: Ask, texts: Sequence[str], *, tokenizer: Tokenizer, config: ModelConfig) -> Floats:
    """(N, C) of N texts."""
    logits, _ = ask(encode(texts, tokenizer=tokenizer, config=config))
    return to_probabilities(logits, multi_label=config.multi_label)
