"""The model: loaded and asked in one thread, or where that takes no time on the event loop (serving/batching.py)."""

import asyncio
import json
import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from nlp_app.errors import CheckpointError, NlpAppError
from nlp_app.heap import give_back
from nlp_app.predictor import Predictor
from serving.answers import Answers
from serving.batching import PROBE, Batcher, Bounds, Gone, Item, Job
from serving.cpus import available_cpus
from serving.measures import OfModel
from serving.problems import Refused
from serving.settings import Served, Settings

PULSE_S = 0.5
HUNG_S = 1.8
"""A batch that the thread has had for so long is not a slow one: the bounds of a batch are for a tenth of it."""
LOST_S = 10.0
"""After so long the process should be started again."""
logger = logging.getLogger(__name__)


class Inference:
    """Loads the checkpoint aside and answers once its golden inputs were answered."""

    def __init__(self, *, served: Served, settings: Settings, measures: OfModel | None = None) -> None:
        self.served = served
        self._measures = measures or OfModel()
        self._settings = settings
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._batcher: Batcher | None = None
        self._predictor: Predictor | None = None
        self._around = (b"", b"")
        self._fails_since: float | None = None
        """When the first of the questions that nobody asked was not answered, since the last one that was."""
        self.closed = False
        """Whether nothing is asked any more."""
        self.abandoned = False
        """Whether the thread still hung when all was closed."""
        self.failure: NlpAppError | None = None
        """Why there will never be a model."""

    async def load(self) -> None:
        """Load the checkpoint; loading asks the golden inputs and fails where an answer differs."""
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        except NlpAppError as error:
            self.failure = error
            return
        except Exception as error:
            logger.exception("the model cannot be loaded")
            self.failure = CheckpointError(f"the model cannot be loaded ({type(error).__name__}: {error})")
            return
        self._predictor = answers.predictor
        model = {"name": self.served.name, "version": answers.predictor.checkpoint.version}
        self._around = b'{"predictions":[', b'],"model":%s}' % json.dumps(model, ensure_ascii=False).encode()
        bounds = Bounds(waiting=self._settings.max_waiting)
        waited = self._measures.stages["queue"].add
        self._batcher = Batcher(model=answers, thread=self._thread, bounds=bounds, waited=waited)

    def submit(self, items: Sequence[Item], deadline: float) -> Job:
        """Take the texts of a request, at least one.

        Args:
            items: the texts.
            deadline: in the time of the event loop.

        Raises:
            Refused: 429, as of Batcher.submit; 503, there is no model, or it hangs.
        """
        return self.batcher.submit(items, deadline)

    async def ask(self, items: Sequence[Item], deadline: float, gone: Gone | None = None) -> bytes:
        """The body of the answer, as JSON.

        Args:
            items: the texts of a request.
            deadline: in the time of the event loop.
            gone: returns when the client has gone.

        Raises:
            Refused: 429 or 504, as of Batcher.ask; 503, there is no model, or it hangs.
            ClientDisconnect: the client has gone.
        """
        batcher = self.batcher
        return self.body(await batcher.ask(items, deadline, gone) if items else [])

    def body(self, answers: Sequence[bytes]) -> bytes:
        """What is sent, of the answers to the texts of a request."""
        before, after = self._around
        return before + b",".join(answers) + after

    @property
    def predictor(self) -> Predictor:
        """The model that answers; Refused with 503 where there is none yet."""
        _ = self.batcher
        assert self._predictor is not None
        return self._predictor

    @property
    def version(self) -> str:
        """Of the checkpoint; empty before there is one."""
        return "" if self._predictor is None else self._predictor.checkpoint.version

    @property
    def loaded(self) -> bool:
        """True; Refused with 503 before."""
        if self._batcher is None and self.failure is None:
            raise Refused(503, "the model is still loading: ask again in a second")
        return True

    def check_ready(self) -> None:
        """Refused with 503 where it would not answer."""
        _ = self.batcher

    @property
    def ready(self) -> bool:
        """Whether it would answer."""
        try:
            self.check_ready()
        except Refused:
            return False
        return True

    @property
    def batcher(self) -> Batcher:
        """What is asked; Refused with 503 where that has no use."""
        if self.failure is not None:
            raise Refused(503, f"there is no model to serve: {self.failure}")
        if self._batcher is None:
            raise Refused(503, "the model is still loading: ask again in a second")
        if self.hung_s > HUNG_S:
            raise Refused(503, "the model does not answer: ask another server")
        if self._fails_since is not None:
            raise Refused(503, "the model fails: ask another server")
        return self._batcher

    async def probe(self) -> None:
        """Ask the thread where nobody else does, or where it failed others, so that it is known whether it answers.

        Takes PULSE_S, or longer.
        """
        await asyncio.sleep(PULSE_S)
        batcher = self._batcher
        if batcher is None or self.closed or (batcher.busy_since is not None and not batcher.suspect):
            return
        batcher.suspect = False
        loop = asyncio.get_running_loop()
        job = Job([PROBE], loop.create_future(), deadline=math.inf)
        batcher.submit_long(job, loop, first=True)
        try:
            async with asyncio.timeout(LOST_S):
                await job.answers
        except TimeoutError:
            pass  # it hangs, which is told from the batch that it does not answer
        except Exception:
            if self._fails_since is None:
                self._fails_since = loop.time()
                logger.exception("the model fails")
        else:
            self._fails_since = None

    @property
    def waiting(self) -> int:
        """Texts accepted and not answered yet."""
        return 0 if self._batcher is None else self._batcher.waiting

    @property
    def hung_s(self) -> float:
        """How long the thread has not answered a batch."""
        since = None if self._batcher is None else self._batcher.busy_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    @property
    def lost(self) -> bool:
        """Whether the thread will not answer any more, by all that is known."""
        return max(self.hung_s, self.fails_s) > LOST_S

    @property
    def fails_s(self) -> float:
        """How long the thread has failed."""
        return 0.0 if self._fails_since is None else asyncio.get_running_loop().time() - self._fails_since

    async def close(self) -> None:
        """Finish what was accepted and end the thread; one that hangs is left behind."""
        self.closed = True
        if self._batcher is not None:
            closing = asyncio.ensure_future(self._batcher.close())
            while not closing.done() and self.hung_s <= HUNG_S:
                await asyncio.wait({closing}, timeout=PULSE_S)
            self.abandoned = not closing.done()
            closing.cancel()
        self._thread.shutdown(wait=not self.abandoned)

    def _load(self) -> Answers:
        settings = self._settings
        threads = settings.threads or max(1, available_cpus() // settings.workers)
        predictor = Predictor.load(
            self.served.folder, device=settings.device, runtime=settings.runtime, threads=threads
        )
        answers = Answers(predictor=predictor, measures=self._measures, log_texts=settings.log_texts)
        give_back()
        return answers
