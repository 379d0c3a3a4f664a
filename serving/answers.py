"""A model as the batches ask it: texts to the JSON of their predictions, and what that takes."""

import math
import time
from collections.abc import Sequence

from pydantic_core import to_json

from nlp_app.encoding import reach_of
from nlp_app.predictor import Predictor
from serving.batching import Item, weight

RUNS = 7
FEW, MANY = 1, 16
SCORE_S = 1.5e-6
"""Of each label beyond the first, as JSON."""
SHORT, LONG = "what was that", "what was that, and why " * 100


class Answers:
    """A predictor that gives JSON and knows how long it takes."""

    def __init__(self, *, predictor: Predictor) -> None:
        self.predictor = predictor
        self._reach = reach_of(predictor.checkpoint.config)
        self.call_s, self._text_s, self._character_s = self._measured()

    def answer(self, items: Sequence[Item]) -> list[bytes]:
        """Each text's prediction, as JSON; the other texts change nothing in it."""
        found: dict[int, bytes] = {}
        for explain in (False, True):
            places = [place for place, item in enumerate(items) if item.explain is explain]
            if not places:
                continue
            most = min(max(items[place].top_k for place in places), len(self.predictor.labels))
            predictions = self.predictor.predict([items[place].text for place in places], most, explain=explain)
            for place, prediction in zip(places, predictions, strict=True):
                values = prediction.to_json()
                values["scores"] = values["scores"][: items[place].top_k]
                found[place] = to_json(values)
        return [found[place] for place in range(len(items))]

    def seconds(self, item: Item) -> float:
        """What an item adds to a call, about; infinite for an explanation, which takes ten times as long."""
        if item.explain:
            return math.inf
        scores = min(item.top_k, len(self.predictor.labels)) - 1
        return self._text_s + self._character_s * min(weight(item), 7 * self._reach) + SCORE_S * scores

    def _measured(self) -> tuple[float, float, float]:
        """Seconds of a call, of a text more, and of a character more; a GPU is never waited for in the event loop."""
        if self.predictor.checkpoint.module.device.type != "cpu":
            return math.inf, math.inf, math.inf
        few, many, long = (self._median(texts) for texts in ([SHORT] * FEW, [SHORT] * MANY, [LONG]))
        text = max(0.0, (many - few) / (MANY - FEW))
        call = max(0.0, few - text)
        return call, text, max(0.0, long - few) / min(len(LONG), self._reach)

    def _median(self, texts: list[str]) -> float:
        items, taken = [Item(text) for text in texts], []
        for _ in range(RUNS):
            started = time.perf_counter()
            self.answer(items)
            taken.append(time.perf_counter() - started)
        return sorted(taken)[RUNS // 2]
