"""The load of benchmarks.chaos: clients that ask while the faults happen."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.chaos_clients import exchange
from benchmarks.chaos_lab import PAUSE_S, Lab
from benchmarks.chaos_outcomes import PATIENCE_S, Outcome, Places, Scenario, judge
from benchmarks.http_bytes import body_of, request_of
from benchmarks.servers import HOST

CLIENTS = 32


class Load:
    """Clients that each ask again when they have their answer, until they are told to stop."""

    def __init__(self, lab: Lab, port: int, *, clients: int = CLIENTS, most: int = 1, limit: int | None = None) -> None:
        """Prepare them.

        Args:
            lab: texts and answers.
            port: where to ask.
            clients: connections.
            most: texts in a request; above 1 half of the requests have several.
            limit: requests after which they stop by themselves.
        """
        self.counts: Counter[Outcome] = Counter()
        self.stopped = asyncio.Event()
        self.flying: dict[int, float] = {}
        """When each client sent the request that it waits for."""
        self.ended: list[tuple[float, float, Outcome]] = []
        """When requests were sent and ended that had no right answer."""
        self.statuses: Counter[int] = Counter()
        """Of whole answers."""
        self._lab, self._port, self._clients, self._most, self._limit = lab, port, clients, most, limit

    async def run(self) -> None:
        """Until stopped is set."""
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        chance = random.Random(number)
        while not self.stopped.is_set():
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, self._port), PATIENCE_S)
            except TimeoutError:
                self._count(Outcome.LOST)
                continue
            except OSError:
                self._count(Outcome.BROKEN)
                await asyncio.sleep(PAUSE_S)
                continue
            try:
                while not self.stopped.is_set() and await self._ask(number, chance, reader, writer):
                    pass
            finally:
                writer.close()

    async def _ask(
        self, number: int, chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request; gives whether the connection can be used again."""
        places, request = self._draw(chance)
        self.flying[number] = sent = time.monotonic()
        found = await exchange(reader, writer, request)
        del self.flying[number]
        outcome = self._judge(found, places)
        self._count(outcome)
        if outcome is not Outcome.RIGHT:
            self.ended.append((sent, time.monotonic(), outcome))
        return not isinstance(found, Outcome)

    def _judge(self, found: tuple[int, bytes] | Outcome, places: Places) -> Outcome:
        if isinstance(found, Outcome):
            return found
        self.statuses[found[0]] += 1
        return judge(*found, places, self._lab.answers)

    def _draw(self, chance: random.Random) -> tuple[list[int], bytes]:
        several = self._most > 1 and chance.random() < 0.5
        places = chance.choices(range(len(self._lab.texts)), k=chance.randint(2, self._most) if several else 1)
        asked = [self._lab.texts[place] for place in places]
        return places, request_of(body_of(asked if several else asked[0]))

    def _count(self, outcome: Outcome) -> None:
        self.counts[outcome] += 1
        if self._limit is not None and self.counts.total() >= self._limit:
            self.stopped.set()


@asynccontextmanager
async def under_load(load: Load, found: Scenario) -> AsyncIterator[Load]:
    """The clients ask while this is entered; what they found is counted."""
    running_load = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stopped.set()
        await running_load
        found.counts.update(load.counts)
