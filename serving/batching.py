"""Batches: texts of many requests are answered together while the model is busy, and a lone request never waits.

There are two lanes. What takes at most HOLD_S is computed on the event loop itself, between two reads of the sockets:
on one core the hand-off to another thread and back costs more than the model. What takes longer, a long text or many,
goes to the one inference thread, a bounded batch at a time, and every request's turn comes after the others'.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from starlette.requests import ClientDisconnect

from serving.problems import expired, too_busy

HOLD_S = 0.0015
"""The event loop is held for so long at a time, as far as can be known before; 2 ms are the limit."""

Gone = Callable[[], Awaitable[None]]


class Item(NamedTuple):
    """A text to answer, and how."""

    text: str
    top_k: int = 1
    explain: bool = False


def weight(item: Item) -> int:
    """About how many ASCII characters take as long.

    One beyond ASCII may become 18 when it is normalised, and every ideograph is a word: by bytes of UTF-8, one of two
    bytes is counted as 4 and one of three as 7. An explanation takes ten times a prediction.
    """
    text = item.text
    characters = len(text)
    if not text.isascii():
        characters += 3 * (len(text.encode(errors="replace")) - characters)
    return characters * (10 if item.explain else 1)


PROBE = Item("")
"""What a server asks to see whether the model answers."""


class Model(Protocol):
    """What is asked."""

    call_s: float
    """What an answer takes beside what its items take, in seconds."""

    def answer(self, items: Sequence[Item]) -> list[bytes]:
        """Each text's prediction, as JSON; the other texts change nothing in it."""

    def seconds(self, item: Item) -> float:
        """What an item adds, by an estimate; infinite where the event loop may never wait for it."""


@dataclass(slots=True, eq=False)
class Job:
    """The texts of one request."""

    items: Sequence[Item]
    answers: "asyncio.Future[list[bytes]]"
    deadline: float
    """In the time of the event loop; after it nothing more of the job is computed."""
    seconds: float = 0.0
    """What its items add to a batch."""
    since: float = field(default_factory=time.perf_counter)
    """When it came; the event loop's own time stands still while callbacks run, and has whole milliseconds alone."""
    found: list[bytes] = field(default_factory=list)
    """The answers to the first items."""
    long: bool = False
    """Whether it is the thread's."""
    expiry: asyncio.TimerHandle | None = None
    """Tells that the deadline has passed."""


Part = tuple[Job, int]
"""So many of the items of a job that are not answered yet."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Of the queue, and of a batch in the thread: both hold one job or text that is larger by itself."""

    waiting: int = 2048
    """Texts accepted and not answered yet."""
    texts: int = 256
    weight: int = 32_768


class Batcher:
    """Collects jobs; its methods are called in one event loop."""

    def __init__(
        self, *, model: Model, thread: Executor, bounds: Bounds, waited: Callable[[float], None] = lambda _: None
    ) -> None:
        self.model = model
        """Asked from the next batch on: a new one can be put in its place at any time."""
        self._thread = thread
        self._bounds = bounds
        self._waited = waited
        """Told how long each job has waited for its first batch."""
        self._short: deque[Job] = deque()
        self._long: deque[Job] = deque()
        self._scheduled = False
        self._running: asyncio.Task[None] | None = None
        self.waiting = 0
        """Texts accepted and not answered yet."""
        self.busy_since: float | None = None
        """When the thread was given what it has not answered yet, in the time of the event loop."""
        self.suspect = False
        """Whether a call has failed since this was last set: of a text that no check foresaw, or of a broken model."""

    def submit(self, items: Sequence[Item], deadline: float) -> Job:
        """Take the texts of a request; its answers come to the job, whose cancelling ends all work for it.

        Args:
            items: the texts, at least one.
            deadline: in the time of the event loop.

        Raises:
            Refused: 429, there is no room for all of them. The job gets 504 where the deadline passes.
        """
        if self.waiting + len(items) > self._bounds.waiting and self.waiting:
            raise too_busy()
        loop = asyncio.get_running_loop()
        job = Job(items, loop.create_future(), deadline, sum(map(self.model.seconds, items)))
        self.waiting += len(items)
        job.answers.add_done_callback(lambda _: self._release(job))
        if self.model.call_s + job.seconds > HOLD_S:
            self.submit_long(job, loop)
        else:
            self._short.append(job)
            self._schedule(loop)
        return job

    def submit_long(self, job: Job, loop: asyncio.AbstractEventLoop, *, first: bool = False) -> None:
        """Take a job that the thread answers, whose texts are counted already; first: before those that wait."""
        job.expiry = None if job.deadline == math.inf else loop.call_at(job.deadline, _expire, job)
        job.long = True
        (self._long.appendleft if first else self._long.append)(job)
        if self._running is None:
            self._running = loop.create_task(self._run_long(loop))

    async def ask(self, items: Sequence[Item], deadline: float, gone: Gone | None = None) -> list[bytes]:
        """The answers to the texts of a request, in their order.

        Args:
            items: as of submit.
            deadline: as of submit.
            gone: returns when the client has gone; awaited only where the thread is asked.

        Raises:
            Refused: 429 as of submit; 504, the deadline has passed and they are not computed.
            ClientDisconnect: gone returned first.
        """
        job = self.submit(items, deadline)
        watches = asyncio.ensure_future(_drop(job, gone)) if gone is not None and job.long else None
        try:
            return await job.answers
        finally:
            if watches is not None:
                watches.cancel()

    async def close(self) -> None:
        """Wait until the thread has answered what it was asked."""
        if self._running is not None:
            await self._running

    def _release(self, job: Job) -> None:
        self.waiting -= len(job.items)
        if job.expiry is not None:
            job.expiry.cancel()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """After the callbacks that are ready now: requests that were read together are answered together."""
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._run_short, loop)

    def _run_short(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = False
        parts: list[Part] = []
        room, now = HOLD_S - self.model.call_s, loop.time()
        for job in _wanted(self._short, now):
            if parts and job.seconds > room:
                self._short.appendleft(job)
                self._schedule(loop)
                break
            room -= job.seconds
            parts.append((job, len(job.items)))
            self._waited(time.perf_counter() - job.since)
        if parts:
            self._settle(parts, answer_parts(self.model, _items_of(parts)))

    async def _run_long(self, loop: asyncio.AbstractEventLoop) -> None:
        while parts := self._next_batch(loop.time()):
            self.busy_since = loop.time()
            try:
                found = await loop.run_in_executor(self._thread, answer_parts, self.model, _items_of(parts))
            except RuntimeError as error:  # there is no thread any more
                found = [error] * len(parts)
            self.busy_since = None
            self._settle(parts, found)
            self._long.extend(job for job, _ in parts if not job.answers.done())
        self._running = None

    def _next_batch(self, now: float) -> list[Part]:
        """Of each job in turn as much as fits; of the first, one text at least."""
        parts: list[Part] = []
        texts = heavy = 0
        for job in _wanted(self._long, now):
            left = job.items[len(job.found) :]
            count = 0
            for item in left:
                texts, heavy = texts + 1, heavy + weight(item)
                if texts > 1 and (texts > self._bounds.texts or heavy > self._bounds.weight):
                    break
                count += 1
            if count:
                parts.append((job, count))
                if not job.found:
                    self._waited(time.perf_counter() - job.since)
            else:
                self._long.appendleft(job)
            if count < len(left):
                break
        return parts

    def _settle(self, parts: Sequence[Part], found: Sequence[list[bytes] | Exception]) -> None:
        for (job, _), answers in zip(parts, found, strict=True):
            if isinstance(answers, Exception):
                self.suspect = True
                if not job.answers.done():
                    job.answers.set_exception(answers)
            elif not job.answers.done():
                job.found += answers
                if len(job.found) == len(job.items):
                    job.answers.set_result(job.found)


def answer_parts(model: Model, parts: Sequence[Sequence[Item]]) -> list[list[bytes] | Exception]:
    """The answers to each part, of one call; where it fails each part is asked by itself, and fails by itself."""
    try:
        answers = iter(model.answer([item for part in parts for item in part]))
        return [[next(answers) for _ in part] for part in parts]
    except Exception as error:  # of a text that no check foresaw: it must not take the others with it
        return [error] if len(parts) == 1 else [answer_parts(model, [part])[0] for part in parts]


def _wanted(queue: deque[Job], now: float) -> Iterator[Job]:
    """Take jobs out of a queue, less those whose client has gone or whose deadline has passed."""
    while queue:
        job = queue.popleft()
        if now >= job.deadline:
            _expire(job)
        if not job.answers.done():
            yield job


async def _drop(job: Job, gone: Gone) -> None:
    await gone()
    if not job.answers.done():
        job.answers.set_exception(ClientDisconnect())


def _expire(job: Job) -> None:
    if not job.answers.done():
        job.answers.set_exception(expired())


def _items_of(parts: Sequence[Part]) -> list[Sequence[Item]]:
    return [job.items[len(job.found) : len(job.found) + count] for job, count in parts]
