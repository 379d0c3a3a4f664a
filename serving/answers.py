"""A model as the batches ask it: texts to the JSON of their predictions, and what that takes."""

import math
import time
from collections.abc import Sequence

from pydantic_core import to_json

from nlp_app.encoding import reach_of
from nlp_app.predictor import Prediction, Predictor
from serving.batching import PROBE, Item, weight
from serving.logs import log_text
from serving.measures import OfModel

RUNS = 7
FEW, MANY = 1, 16
SCORE_S = 1.5e-6
"""Of each label beyond the first, as JSON."""
SHORT, LONG = "what was that", "what was that, and why " * 100


class Answers:
    """A predictor that gives JSON and knows how long it takes."""

    def __init__(self, *, predictor: Predictor, measures: OfModel | None = None, log_texts: bool = False) -> None:
        self.predictor = predictor
        self._log_texts = False
        self.measures = OfModel()  # of what it asks itself
        self._reach = reach_of(predictor.checkpoint.config)
        self.call_s, self._text_s, self._character_s = self._measured()
        self.measures = measures or OfModel()
        self._log_texts = log_texts

    def answer(self, items: Sequence[Item]) -> list[bytes]:
        """Each text's prediction, as JSON; the other texts change nothing in it."""
        found: dict[int, bytes] = {}
        for explain in (False, True):
            places = [place for place, item in enumerate(items) if item.explain is explain]
            if places:
                found |= zip(places, self._answered([items[place] for place in places], explain), strict=True)
        return [found[place] for place in range(len(items))]

    def _answered(self, items: Sequence[Item], explain: bool) -> list[bytes]:
        started = time.perf_counter()
        texts = [item.text for item in items]
        encoded = self.predictor.encode(texts)
        tokenised = time.perf_counter()
        most = min(max(item.top_k for item in items), len(self.predictor.labels))
        predictions = self.predictor.classify(texts, encoded, most, explain=explain)
        inferred = time.perf_counter()
        found = [_json(prediction, item.top_k) for prediction, item in zip(predictions, items, strict=True)]
        if items[0] is not PROBE:
            self._measure(predictions, started, tokenised, inferred)
            if self._log_texts:
                for text, prediction in zip(texts, predictions, strict=True):
                    log_text(text, prediction.label, prediction.score)
        return found

    def _measure(self, predictions: Sequence[Prediction], started: float, tokenised: float, inferred: float) -> None:
        measures = self.measures
        measures.texts += len(predictions)
        measures.batches.add(len(predictions))
        measures.stages["tokenise"].add(tokenised - started)
        measures.stages["infer"].add(inferred - tokenised)
        measures.stages["serialise"].add(time.perf_counter() - inferred)
        for prediction in predictions:
            measures.labels[prediction.label] += 1
            measures.scores.add(prediction.score)
            measures.abstained += prediction.abstained
            measures.out_of_scope += prediction.out_of_scope

    def seconds(self, item: Item) -> float:
        """What an item adds to a call, about; infinite for an explanation, which takes ten times as long."""
        if item.explain:
            return math.inf
        scores = min(item.top_k, len(self.predictor.labels)) - 1
        return self._text_s + self._character_s * min(weight(item), 7 * self._reach) + SCORE_S * scores

    def _measured(self) -> tuple[float, float, float]:
        """Seconds of a call, of a text more, and of a character more; a GPU is never waited for in the event loop."""
        if not self.predictor.checkpoint.on_cpu:
            return math.inf, math.inf, math.inf
        few, many, long = (self._least(texts) for texts in ([SHORT] * FEW, [SHORT] * MANY, [LONG]))
        text = max(0.0, (many - few) / (MANY - FEW))
        call = max(0.0, few - text)
        return call, text, max(0.0, long - few) / min(len(LONG), self._reach)

    def _least(self, texts: list[str]) -> float:
        """Of several calls, since what else the machine does while a model is loaded says nothing of it later."""
        items, taken = [Item(text) for text in texts], []
        for _ in range(RUNS):
            started = time.perf_counter()
            self.answer(items)
            taken.append(time.perf_counter() - started)
        return min(taken)


def _json(prediction: Prediction, top_k: int) -> bytes:
    values = prediction.to_json()
    if len(values["scores"]) > top_k:
        values["scores"] = values["scores"][:top_k]
    return to_json(values)
