"""The invariants of batching, under schedules that are made up, with a clock and a thread that the test moves."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from serving.batching import HOLD_S, Batcher, Bounds, Item, Job, weight
from serving.problems import Refused

T = TypeVar("T")
BOUNDS = Bounds(waiting=12, texts=4, weight=100)
POISON = "poison"
SOME_TURNS = 8
"""Of the event loop, in which whatever can happen has happened."""


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time is what the test says."""

    now = 0.0

    def time(self) -> float:
        return self.now


def run(main: Callable[[Clock], Coroutine[Any, Any, T]]) -> T:
    loop = Clock()
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()


class Thread(Executor):
    """Runs what it was given when the test says so."""

    def __init__(self) -> None:
        self.given: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.having: list[Item] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        assert not self.given, "one batch at a time"
        self.having = [item for part in args[1] for item in part]
        future: Future[Any] = Future()
        self.given.append((future, lambda: work(*args)))
        return future

    def finish(self) -> None:
        future, work = self.given.pop()
        future.set_result(work())


@dataclass
class Model:
    """Answers with the text itself, and remembers what it was asked at a time."""

    thread: Thread
    call_s: float = HOLD_S / 10
    batches: list[tuple[bool, list[Item]]] = field(default_factory=list)
    """Whether it was on the event loop, and the items."""
    fails: bool = False
    on_loop: bool = True

    def answer(self, items: Sequence[Item]) -> list[bytes]:
        self.batches.append((self.on_loop, list(items)))
        if any(item.text.startswith(POISON) for item in items):
            raise ValueError(POISON)
        return [expected(item) for item in items]

    def seconds(self, item: Item) -> float:
        return len(item.text) * HOLD_S / 50 if not item.explain else float("inf")


def expected(item: Item) -> bytes:
    return f"{item.text}/{item.top_k}/{item.explain}".encode()


async def turns(number: int = SOME_TURNS) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class House:
    """A batcher, what it asks, and the requests made so far."""

    def __init__(self, loop: Clock, bounds: Bounds = BOUNDS) -> None:
        self.loop = loop
        self.thread = Thread()
        self.model = Model(self.thread)
        self.batcher = Batcher(model=self.model, thread=self.thread, bounds=bounds)
        self.asked: list[tuple[list[Item], asyncio.Task[list[bytes]], asyncio.Event]] = []
        self.dropped: set[str] = set()
        """Texts that nobody waits for any more and that no batch had."""

    def ask(self, items: list[Item], deadline: float = 1e9) -> asyncio.Task[list[bytes]]:
        left = asyncio.Event()

        async def gone() -> None:
            await left.wait()

        task = self.loop.create_task(self.batcher.ask(items, deadline, gone))
        self.asked.append((items, task, left))
        return task

    def finish(self) -> None:
        self.model.on_loop = False
        self.thread.finish()
        self.model.on_loop = True

    async def finish_all(self) -> None:
        await turns()
        while self.thread.given:
            self.finish()
            await turns()

    def is_long(self, items: Sequence[Item]) -> bool:
        return self.model.call_s + sum(map(self.model.seconds, items)) > HOLD_S

    def given_up(self, items: Sequence[Item]) -> None:
        """Nobody waits for these texts from now on: those that no batch has may not be computed."""
        started = {item.text for _, batch in self.model.batches for item in batch}
        if self.thread.given:
            started |= {item.text for item in self.thread.having}
        self.dropped |= {item.text for item in items} - started


lengths = st.one_of(
    st.lists(st.integers(1, 70), min_size=1, max_size=14), st.lists(st.integers(1, 25), min_size=1, max_size=2)
)
requests = st.tuples(st.just("ask"), lengths, st.booleans(), st.integers(1, 3), st.sampled_from([1e9, 1e9, 5.0, 10.0]))
steps = st.one_of(
    requests,
    requests,
    st.tuples(st.just("turn"), st.integers(1, 4)),
    st.tuples(st.just("finish")),
    st.tuples(st.just("leave"), st.integers(0, 30)),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("later"), st.integers(1, 4)),
)


@given(schedule=st.lists(steps, max_size=30), poisoned=st.sets(st.integers(0, 30), max_size=2))
@settings(max_examples=1500)
def test_every_schedule_gives_each_caller_its_own_answers_within_the_bounds(
    schedule: list[tuple[Any, ...]], poisoned: set[int]
) -> None:
    run(lambda loop: play(loop, schedule, poisoned))


async def play(loop: Clock, schedule: list[tuple[Any, ...]], poisoned: set[int]) -> None:
    house = House(loop)
    for step in schedule:
        match step:
            case ("ask", sizes, explain, top_k, deadline):
                number = len(house.asked)
                prefix = POISON if number in poisoned else "text"
                names = [f"{prefix}{number}.{place}." for place in range(len(sizes))]
                items = [Item(name.ljust(size, "-"), top_k, explain) for name, size in zip(names, sizes, strict=True)]
                house.ask(items, deadline)
            case ("turn", number):
                await turns(number)
            case ("finish",) if house.thread.given:
                house.finish()
            case ("leave" | "cancel" as how, number) if number < len(house.asked):
                items, task, left = house.asked[number]
                if task.done():
                    continue
                if how == "leave":
                    left.set()
                    await turns(2)  # for the one that watches to see it
                else:
                    task.cancel()
                    await turns(1)
                if how == "cancel" or house.is_long(items):
                    house.given_up(items)
            case ("later", seconds):
                loop.now += seconds
                await turns(2)
        assert house.batcher.waiting <= max(BOUNDS.waiting, *(len(items) for items, _, _ in house.asked), 0)
    await house.finish_all()
    check(house)


def check(house: House) -> None:
    outcomes = set()
    for items, task, _ in house.asked:
        assert task.done(), "nobody waits for ever"
        if task.cancelled():
            outcomes.add("cancelled")
        elif error := task.exception():
            outcomes.add(type(error).__name__)
            assert isinstance(error, Refused | ClientDisconnect | ValueError)
            if isinstance(error, Refused):
                assert error.status in (429, 504)
            if isinstance(error, ValueError):
                assert items[0].text.startswith(POISON), "a text that fails takes no other request with it"
        else:
            outcomes.add("answered")
            assert task.result() == [expected(item) for item in items]
    event(", ".join(sorted(outcomes)))
    assert house.batcher.waiting == 0
    assert not house.thread.given
    healthy = [batch for batch in house.model.batches if not any(item.text.startswith(POISON) for item in batch[1])]
    for on_loop, batch in house.model.batches:
        if on_loop:
            assert house.model.call_s + sum(map(house.model.seconds, batch)) <= HOLD_S + 1e-12
        elif len(batch) > 1:
            assert len(batch) <= BOUNDS.texts
            assert sum(map(weight, batch)) <= BOUNDS.weight
        assert not house.dropped & {item.text for item in batch}, "what nobody waits for is not computed"
    if len(healthy) == len(house.model.batches):
        texts = [item.text for _, batch in healthy for item in batch]
        assert len(texts) == len(set(texts)), "nothing is computed twice"


@given(size=st.integers(1, 70), explain=st.booleans())
@settings(max_examples=200)
def test_a_lone_request_never_waits(size: int, explain: bool) -> None:
    async def main(loop: Clock) -> None:
        house = House(loop)
        task = house.ask([Item("x" * size, 1, explain)])
        await turns(4)
        assert task.done() != bool(house.thread.given), "it is answered, or the thread has it"
        await house.finish_all()
        assert task.result() == [expected(Item("x" * size, 1, explain))]

    run(main)


def test_requests_that_are_read_together_are_answered_together() -> None:
    async def main(loop: Clock) -> None:
        house = House(loop)
        tasks = [house.ask([Item(f"a{number}")]) for number in range(5)]
        await turns()
        assert all(task.done() for task in tasks)
        assert [len(batch) for _, batch in house.model.batches] == [5]

    run(main)


def test_short_requests_are_answered_while_the_thread_has_a_long_one() -> None:
    async def main(loop: Clock) -> None:
        house = House(loop)
        long, short = house.ask([Item("x" * 1000)]), house.ask([Item("short")])
        await turns()
        assert short.done()
        assert not long.done()
        await house.finish_all()
        assert long.done()

    run(main)


def test_a_request_of_many_texts_lets_the_others_have_their_turn() -> None:
    async def main(loop: Clock) -> None:
        house = House(loop)
        many = house.ask([Item(f"{place}".ljust(60)) for place in range(9)])
        one = house.ask([Item("one".ljust(60))])
        await turns()
        house.finish()
        await turns()
        house.finish()
        await turns()
        assert one.done()
        assert not many.done()
        await house.finish_all()
        assert many.result() == [expected(Item(f"{place}".ljust(60))) for place in range(9)]

    run(main)


@pytest.mark.parametrize("explain", [True, False])
def test_a_deadline_that_passes_while_a_batch_is_computed_is_told_at_once(explain: bool) -> None:
    async def main(loop: Clock) -> None:
        house = House(loop)
        first, second = (house.ask([Item(f"{name}" * 100, 1, explain)], deadline=3.0) for name in "ab")
        await turns()
        loop.now = 3.0
        await turns()
        for task in (first, second):
            error = task.exception()
            assert isinstance(error, Refused)
            assert error.status == 504
        await house.finish_all()
        assert len(house.model.batches) == 1, "the second is never computed"

    run(main)


def test_a_short_request_whose_deadline_has_passed_is_not_computed() -> None:
    async def main(loop: Clock) -> None:
        house = House(loop)
        late, other = house.ask([Item("late")], deadline=0.0), house.ask([Item("other")])
        await turns()
        error = late.exception()
        assert isinstance(error, Refused)
        assert error.status == 504
        assert other.result() == [expected(Item("other"))]
        assert [batch for _, batch in house.model.batches] == [[Item("other")]]

    run(main)


def test_a_request_larger_than_the_queue_is_answered_where_nobody_else_waits() -> None:
    async def main(loop: Clock) -> None:
        house = House(loop)
        items = [Item("y" * 30, place) for place in range(1, 40)]
        large, refused = house.ask(items), house.ask([Item("z")])
        await house.finish_all()
        assert large.result() == [expected(item) for item in items]
        error = refused.exception()
        assert isinstance(error, Refused)
        assert error.status == 429

    run(main)


def test_a_call_that_fails_makes_the_model_suspect_whoever_asked() -> None:
    async def main(loop: Clock) -> None:
        house = House(loop)
        good = house.ask([Item("x" * 60)])
        await house.finish_all()
        assert not house.batcher.suspect
        for size in (1, 60):  # on the event loop, and in the thread
            house.batcher.suspect = False
            bad = house.ask([Item(POISON + "x" * size)])
            await house.finish_all()
            assert house.batcher.suspect
            assert isinstance(bad.exception(), ValueError)
        assert good.exception() is None

    run(main)


def test_what_asks_after_the_model_does_not_wait_behind_a_queue() -> None:
    async def main(loop: Clock) -> None:
        house = House(loop)
        running, *waiting = (house.ask([Item(letter * 60)]) for letter in "abc")
        await turns()
        probe = Job([Item("probe")], loop.create_future(), deadline=1e9)
        house.batcher.submit_long(probe, loop, first=True)
        house.finish()
        await turns()
        assert house.thread.having[0].text == "probe"
        await house.finish_all()
        assert await probe.answers == [expected(Item("probe"))]
        assert all(task.done() for task in (running, *waiting))

    run(main)
