"""CompiledClassifier: a FoldedClassifier of one block, a text at a time, by C in place of calls of torch and numpy.

A call of an array library takes a microsecond or more, and a text by itself takes some 60 of them.
"""

from collections.abc import Sequence

import numpy as np

from nlp_app.config import ModelConfig
from nlp_app.encoding import Encoded
from nlp_app.folded import FoldedClassifier, fold
from nlp_app.model import SHAPES_LENGTH, TextClassifier
from nlp_app.probabilities import Floats

try:
    from nlp_app import _folded as _folded
except ImportError:  # no compiler was found when the project was installed
    _folded = None  # type: ignore[assignment]


def fastest(module: TextClassifier) -> "TextClassifier | FoldedClassifier | CompiledClassifier":
    """What answers as the module does, to 1e-5, in the least time: folded and compiled where each is possible."""
    folded = fold(module)
    if _folded is None or not isinstance(folded, FoldedClassifier) or len(folded.others):
        return folded
    return CompiledClassifier(folded=folded)


class CompiledClassifier:
    """What a folded module gives, to 1e-5; it shares its tables."""

    def __init__(self, *, folded: FoldedClassifier) -> None:
        self.folded = folded
        sizes, weight = np.array(folded.config.kernel_sizes, dtype=np.int64), folded.weight.contiguous().numpy()
        self._module = folded.table.numpy(), folded.tokens, sizes, folded.shift.numpy(), weight
        self._bias = folded.bias.numpy()
        self._branch = None
        if (branch := folded.branch) is not None:
            self._branch = branch.rows, branch.idf, branch.weight.numpy(), SHAPES_LENGTH
            self._bias = self._bias + branch.bias.numpy()

    @property
    def config(self) -> ModelConfig:
        """The module's config."""
        return self.folded.config

    def ask(self, encoded: Sequence[Encoded]) -> tuple[Floats, Floats]:
        """As nlp_app.scoring.ask."""
        logits = np.empty((len(encoded), len(self._bias)), dtype=np.float32)
        logits[:] = self._bias
        familiar = np.ones(len(encoded), dtype=np.float32)
        for place, (row, text) in enumerate(zip(logits, encoded, strict=True)):
            _folded.convolutions(text.input_ids, row, self._module)
            if self._branch is not None:
                slots, counts = text.ngrams
                familiar[place] = _folded.branch(slots, counts, row, self._branch) / len(slots)
        return logits, familiar
