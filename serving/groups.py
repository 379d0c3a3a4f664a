"""The lines of a stream, asked together and answered each by itself."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from serving.batching import Item
from serving.lines import Line
from serving.models import Slot
from serving.problems import Refused, failed

HELD = 3
"""Groups that are not answered yet; no more is read before one is."""
PAUSE_S = 0.02
"""Before a full queue is asked again."""
Answers = asyncio.Future[list[bytes]]


class Group(NamedTuple):
    """Lines, the answers to their texts, and which version gives those."""

    lines: Sequence[Line]
    answers: Answers | None = None
    version: str = ""


class Asking:
    """What a stream has asked of its model."""

    def __init__(self, *, slot: Slot, timeout_s: float) -> None:
        self._slot = slot
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(HELD)
        self._waiting: set[Answers] = set()
        self._left = False

    async def submit(self, lines: Sequence[Line]) -> Group:
        """To the model, as soon as there is room; a group is answered by one version.

        Raises:
            ClientDisconnect: nobody waits for the answers.
        """
        await self._room.acquire()
        return await self._submit(lines)

    async def _submit(self, lines: Sequence[Line]) -> Group:
        items = [line for line in lines if isinstance(line, Item)]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        while items:
            if self._left:
                raise ClientDisconnect
            inference = self._slot.current
            try:
                return Group(lines, self._kept(inference.submit(items, deadline).answers), inference.version)
            except Refused as refused:
                if refused.status != 429 or loop.time() >= deadline:
                    return Group([_told(refused) if isinstance(line, Item) else line for line in lines])
            await asyncio.sleep(PAUSE_S)
        return Group(lines)

    async def answers(self, group: Group) -> list[bytes]:
        """A line for a line; where the model fails, its texts are asked again one by one: the others are answered.

        Raises:
            ClientDisconnect: nobody waits for them.
        """
        error = await self._error(group)
        self._room.release()
        if error is None:
            return _joined(group)
        items = [line for line in group.lines if isinstance(line, Item)]
        refused = error if isinstance(error, Refused) else failed(error)
        again = refused is not error and len(items) > 1
        found = iter([await self._alone(item, refused) if again else _told(refused) for item in items])
        return [line if isinstance(line, bytes) else next(found) for line in group.lines]

    def leave(self) -> None:
        """Nobody waits any more: what is not computed will not be."""
        self._left = True
        for answers in list(self._waiting):
            answers.cancel()

    async def _alone(self, item: Item, otherwise: Refused) -> bytes:
        group = await self._submit([item])
        error = await self._error(group)
        if error is None:
            return _joined(group)[0]
        return _told(error if isinstance(error, Refused) else otherwise)

    async def _error(self, group: Group) -> BaseException | None:
        """Why there are no answers, once it is known whether there are."""
        if group.answers is None:
            return None
        await asyncio.wait([group.answers])
        if group.answers.cancelled():
            raise ClientDisconnect
        return group.answers.exception()

    def _kept(self, answers: Answers) -> Answers:
        self._waiting.add(answers)
        answers.add_done_callback(self._done)
        return answers

    def _done(self, answers: Answers) -> None:
        self._waiting.discard(answers)
        if not answers.cancelled():
            answers.exception()  # asyncio complains of one that nobody has looked at, as of a client that has gone


def _joined(group: Group) -> list[bytes]:
    found = iter(group.answers.result() if group.answers else ())
    end = b',"version":%s}' % to_json(group.version)
    return [line if isinstance(line, bytes) else next(found)[:-1] + end for line in group.lines]


def _told(refused: Refused) -> bytes:
    return to_json({"detail": refused.detail})
