"""Predictor: texts in, labels with probabilities out; the one way to ask a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from nlp_app.checkpoint import Checkpoint, load_checkpoint
from nlp_app.compiled import fastest
from nlp_app.device import find_device
from nlp_app.encoding import Encoded, encode
from nlp_app.errors import ConfigError, TokenizerError
from nlp_app.explain import Explanation, explain_text
from nlp_app.scoring import ask, to_probabilities

TEXTS_PER_CHUNK = 4096
"""Texts encoded at a time, so that memory does not grow with their number; many, so that lengths can be matched."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and its probability."""

    label: str
    score: float

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"label": self.label, "score": self.score}


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one text."""

    label: str
    """The most probable label."""
    score: float
    """Its probability."""
    scores: tuple[LabelScore, ...]
    """The top_k most probable labels, best first."""
    truncated: bool = False
    """True where the text was longer than the model reads, so that its end was not seen."""
    labels: tuple[str, ...] | None = None
    """Those that the text is given, best first, where it may have several or none; None where it has one."""
    abstained: bool = False
    """True where the score is lower than what the model was told to answer with."""
    explanation: Explanation | None = None
    """What each token of the text adds to `label`, where that was asked for."""
    out_of_scope: bool = False
    """True where the text is less familiar than nearly all texts of the kind that the model was trained on."""
    familiarity: float = 1.0
    """The share of the text's n-grams that the training texts had; 1 where the model reads none."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `truncated`, `abstained` and `out_of_scope` stand there only where they are true."""
        values = {"label": self.label, "score": self.score, "scores": [item.to_json() for item in self.scores]}
        if self.labels is not None:
            values["labels"] = list(self.labels)
        if self.explanation is not None:
            values["explanation"] = self.explanation.to_json()
        return values | {name: True for name in ("truncated", "abstained", "out_of_scope") if getattr(self, name)}


class Predictor:
    """A loaded checkpoint that answers."""

    def __init__(self, *, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._module = fastest(checkpoint.module)

    @classmethod
    def load(cls, folder: Path | str, *, device: str = "cpu") -> Self:
        """Load a checkpoint folder.

        Args:
            folder: the checkpoint.
            device: cpu, cuda, cuda:1 …, or auto.

        Raises:
            CheckpointError: the folder is not whole.
            ConfigError: the device is not there.
        """
        return cls(checkpoint=load_checkpoint(Path(folder), device=find_device(device)))

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes."""
        return self.checkpoint.config.labels

    def predict(self, texts: Sequence[str], top_k: int = 1, *, explain: bool = False) -> list[Prediction]:
        """Classify texts; the answer to one does not depend on the others.

        Args:
            texts: any number of them; a blank one is scored like any other.
            top_k: labels in `scores`, at most as many as there are.
            explain: whether each prediction has an `explanation`.

        Raises:
            ConfigError: top_k is not a whole number of 1 or more, or explain is not a bool.
            TokenizerError: a text is not a str, or holds a lone surrogate.
        """
        if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
            raise ConfigError(f"top_k is {top_k!r}, but must be a whole number of 1 or more")
        if not isinstance(explain, bool):
            raise ConfigError(f"explain is {explain!r}, but must be True or False")
        if isinstance(texts, str):
            raise TokenizerError("texts is one str, but must be a list of them: write [text]")
        predictions: list[Prediction] = []
        for start in range(0, len(texts), TEXTS_PER_CHUNK):
            chunk = texts[start : start + TEXTS_PER_CHUNK]
            predictions += self.classify(chunk, self.encode(chunk), top_k, explain=explain)
        return predictions

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """What the model reads of texts.

        Raises:
            TokenizerError: a text is not a str, or holds a lone surrogate.
        """
        return encode(texts, tokenizer=self.checkpoint.tokenizer, config=self.checkpoint.config)

    def classify(
        self, texts: Sequence[str], encoded: Sequence[Encoded], top_k: int = 1, *, explain: bool = False
    ) -> list[Prediction]:
        """The predictions for texts that were encoded; a few thousand at most, for all are held at once.

        Args:
            texts: N texts.
            encoded: of encode.
            top_k: as of predict.
            explain: as of predict.
        """
        module = self._module
        logits, familiar = ask(module, encoded)
        probabilities = to_probabilities(logits, multi_label=module.config.multi_label)
        best = probabilities.topk(min(top_k, len(self.labels)), dim=1)
        ranked = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        rows = zip(ranked, encoded, self._given(probabilities), familiar.tolist(), strict=True)
        found = [self._prediction(*best_of, text.truncated, given, known) for best_of, text, given, known in rows]
        return self._explained(found, texts, encoded, logits) if explain else found

    def _explained(
        self, predictions: Sequence[Prediction], texts: Sequence[str], encoded: Sequence[Encoded], logits: Tensor
    ) -> list[Prediction]:
        return [
            replace(found, explanation=explain_text(self.checkpoint, text, encoded=one, logits=row, label=found.label))
            for found, text, one, row in zip(predictions, texts, encoded, logits, strict=True)
        ]

    def _given(self, probabilities: Tensor) -> list[tuple[str, ...]] | list[None]:
        """The labels of each text, where it may have several."""
        if not self.checkpoint.config.multi_label:
            return [None] * len(probabilities)
        given = self.checkpoint.decision.given(probabilities)
        order = probabilities.masked_fill(~given, -1).argsort(dim=1, descending=True, stable=True)
        counts = given.sum(dim=1).tolist()
        return [
            tuple(self.labels[place] for place in row[:count].tolist())
            for row, count in zip(order, counts, strict=True)
        ]

    def _prediction(
        self, indices: list[int], values: list[float], truncated: bool, given: tuple[str, ...] | None, familiar: float
    ) -> Prediction:
        scores = tuple(LabelScore(self.labels[index], value) for index, value in zip(indices, values, strict=True))
        decision = self.checkpoint.decision
        return Prediction(
            label=scores[0].label,
            score=scores[0].score,
            scores=scores,
            truncated=truncated,
            labels=given,
            abstained=values[0] < decision.min_score,
            out_of_scope=familiar < decision.min_familiarity,
            familiarity=familiar,
        )
