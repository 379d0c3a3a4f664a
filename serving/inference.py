"""The one thread in which the model is loaded and asked; the event loop never computes."""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from nlp_app.errors import CheckpointError, NlpAppError
from nlp_app.predictor import Predictor
from serving.problems import Refused
from serving.settings import Settings

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Inference:
    """Loads the checkpoint aside and answers once its golden inputs were answered."""

    def __init__(self, *, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._predictor: Predictor | None = None
        self.failure: NlpAppError | None = None
        """Why there will never be a model."""

    async def load(self) -> None:
        """Load the checkpoint; loading asks the golden inputs and fails where an answer differs."""
        try:
            self._predictor = await self._run(self._load)
        except NlpAppError as error:
            self.failure = error
        except Exception as error:
            logger.exception("the model cannot be loaded")
            self.failure = CheckpointError(f"the model cannot be loaded ({type(error).__name__}: {error})")

    async def predict(self, texts: Sequence[str], top_k: int, *, explain: bool) -> bytes:
        """The body of the answer, as JSON."""
        predictor = self.predictor
        return await self._run(lambda: self._answer(predictor, texts, top_k, explain))

    @property
    def predictor(self) -> Predictor:
        """The model that answers; Refused with 503 where there is none yet."""
        if self.failure is not None:
            raise Refused(503, f"there is no model to serve: {self.failure}")
        if self._predictor is None:
            raise Refused(503, "the model is still loading: ask again in a second")
        return self._predictor

    def close(self) -> None:
        """Finish what was accepted and end the thread."""
        self._thread.shutdown(wait=True)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _load(self) -> Predictor:
        if self._settings.threads:
            torch.set_num_threads(self._settings.threads)
        return Predictor.load(self._settings.checkpoint, device=self._settings.device)

    def _answer(self, predictor: Predictor, texts: Sequence[str], top_k: int, explain: bool) -> bytes:
        predictions = [prediction.to_json() for prediction in predictor.predict(texts, top_k, explain=explain)]
        model = {"name": self._settings.model_name, "version": predictor.checkpoint.version}
        return json.dumps({"predictions": predictions, "model": model}, ensure_ascii=False, allow_nan=False).encode()
