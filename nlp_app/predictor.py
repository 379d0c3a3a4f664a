"""Predictor: texts in, labels with probabilities out; the one way to ask a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nlp_app.config import ModelConfig
from nlp_app.decision import Decision
from nlp_app.encoding import Encoded, encode
from nlp_app.errors import ConfigError, TokenizerError
from nlp_app.explanation import Explanation
from nlp_app.probabilities import Ask, Floats, to_probabilities
from nlp_app.tokenizer import Tokenizer

TORCH, ONNX = "torch", "onnx"
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


class Loaded(Protocol):
    """A checkpoint, whatever computes its logits."""

    @property
    def config(self) -> ModelConfig:
        """Of the model."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the model."""

    @property
    def decision(self) -> Decision:
        """What is said at which score."""

    @property
    def version(self) -> str:
        """The first 12 hex digits of the manifest's SHA-256."""

    @property
    def metrics(self) -> Mapping[str, Any]:
        """metrics.json."""

    @property
    def on_cpu(self) -> bool:
        """Whether an answer is computed where it is asked for."""

    def asked(self) -> Ask:
        """What answers, in the least time."""

    def explain(self, text: str, *, encoded: Encoded, logits: Floats, label: str) -> Explanation:
        """Why a text has a label; ConfigError where it cannot tell."""


class Predictor:
    """A loaded checkpoint that answers."""

    def __init__(self, *, checkpoint: Loaded) -> None:
        self.checkpoint = checkpoint
        self._ask = checkpoint.asked()

    @classmethod
    def load(cls, folder: Path | str, *, device: str = "cpu", runtime: str = TORCH, threads: int = 0) -> Self:
        """Load a checkpoint folder.

        Args:
            folder: the checkpoint.
            device: cpu, cuda, cuda:1 …, or auto.
            runtime: torch, or onnx for ONNX Runtime, which asks the folder's model.onnx on the CPU.
            threads: that compute an answer; 0 leaves them as they are.

        Raises:
            CheckpointError: the folder is not whole.
            ConfigError: the device or the runtime is not there.
        """
        return cls(checkpoint=load(Path(folder), device=device, runtime=runtime, threads=threads))

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
        logits, familiar = self._ask(encoded)
        probabilities = to_probabilities(logits, multi_label=self.checkpoint.config.multi_label)
        best = ranking(probabilities, min(top_k, len(self.labels)))
        ranked = zip(best.tolist(), np.take_along_axis(probabilities, best, axis=1).tolist(), strict=True)
        rows = zip(ranked, encoded, self._given(probabilities), familiar.tolist(), strict=True)
        found = [self._prediction(*best_of, text.truncated, given, known) for best_of, text, given, known in rows]
        return self._explained(found, texts, encoded, logits) if explain else found

    def _explained(
        self, predictions: Sequence[Prediction], texts: Sequence[str], encoded: Sequence[Encoded], logits: Floats
    ) -> list[Prediction]:
        explain = self.checkpoint.explain
        return [
            replace(found, explanation=explain(text, encoded=one, logits=row, label=found.label))
            for found, text, one, row in zip(predictions, texts, encoded, logits, strict=True)
        ]

    def _given(self, probabilities: Floats) -> list[tuple[str, ...]] | list[None]:
        """The labels of each text, where it may have several."""
        if not self.checkpoint.config.multi_label:
            return [None] * len(probabilities)
        given = self.checkpoint.decision.given(probabilities)
        order = ranking(np.where(given, probabilities, -1), len(self.labels)).tolist()
        counts = given.sum(axis=1).tolist()
        return [tuple(self.labels[place] for place in row[:count]) for row, count in zip(order, counts, strict=True)]

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


def ranking(scores: Floats, top_k: int) -> NDArray[np.int64]:
    """The places of the best scores of each row, best first, the first of equals before the others: (N, top_k)."""
    if top_k == 1:
        best: NDArray[np.int64] = scores.argmax(axis=1, keepdims=True)
        return best
    found: NDArray[np.int64] = (-scores).argsort(axis=1, kind="stable")[:, :top_k]
    return found


def load(folder: Path, *, device: str, runtime: str, threads: int) -> Loaded:
    """As of Predictor.load; the other runtime is not imported."""
    if runtime == ONNX:
        if device not in ("cpu", "auto"):
            raise ConfigError(f"--device is {device!r}, but ONNX Runtime answers on the cpu here: leave it out")
        from nlp_app.onnx_checkpoint import load_onnx

        return load_onnx(folder, threads=threads)
    if runtime != TORCH:
        raise ConfigError(f"runtime is {runtime!r}, but must be {TORCH} or {ONNX}")
    import torch

    from nlp_app.checkpoint import load_checkpoint
    from nlp_app.device import find_device

    if threads:
        torch.set_num_threads(threads)
    return load_checkpoint(folder, device=find_device(device))
