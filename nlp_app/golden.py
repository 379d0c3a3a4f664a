"""Golden inputs: texts with the answers that the module gave when it was saved, asked again at every load.

They prove the whole path at once: tokenizer, weights, buffers, and the libraries of the machine that loads.
They are random words of the vocabulary, so no text of a user is ever written into a checkpoint.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from nlp_app.encoding import encode
from nlp_app.errors import CheckpointError
from nlp_app.model import TextClassifier
from nlp_app.scoring import score, to_probabilities
from nlp_app.tokenizer import UNK_ID, Tokenizer

WORD_COUNTS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55)
TOLERANCE = 1e-4


def make_golden(module: TextClassifier, tokenizer: Tokenizer) -> dict[str, Any]:
    """Ask the module: {"examples": [{"text", "label", "score"}, …]}, the same for the same model."""
    draw = random.Random(0)
    tokens = [tokenizer.token(token_id) for token_id in range(UNK_ID + 1, tokenizer.vocab_size)] or [""]
    texts = [" ".join(draw.choices(tokens, k=count)) for count in WORD_COUNTS]
    scores, best = _probabilities(module, tokenizer, texts).max(dim=1)
    labels = module.config.labels
    return {
        "examples": [
            {"text": text, "label": labels[index], "score": value}
            for text, index, value in zip(texts, best.tolist(), scores.tolist(), strict=True)
        ]
    }


def check_golden(module: TextClassifier, tokenizer: Tokenizer, golden: Mapping[str, Any]) -> None:
    """Raise a CheckpointError unless the module answers as it did when it was saved, within TOLERANCE.

    The score of the golden label is compared, not the label: two classes may be as good as equal.
    """
    labels = {label: index for index, label in enumerate(module.config.labels)}
    try:
        examples = [
            (example["text"], labels[example["label"]], float(example["score"])) for example in golden["examples"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise CheckpointError("golden.json does not hold texts with a label of the model and a score") from None
    if not examples:
        raise CheckpointError("golden.json holds no example")
    rows = _probabilities(module, tokenizer, [text for text, _, _ in examples]).tolist()
    for (text, label, expected), row in zip(examples, rows, strict=True):
        if not abs(row[label] - expected) <= TOLERANCE:
            raise CheckpointError(
                f"the golden input {text!r} scores {row[label]:.6f} for {module.config.labels[label]!r}, but scored "
                f"{expected:.6f} when the model was saved: the weights or a library of this machine differ"
            )


def _probabilities(module: TextClassifier, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    logits = score(module, encode(texts, tokenizer=tokenizer, config=module.config))
    return to_probabilities(logits, multi_label=module.config.multi_label)
