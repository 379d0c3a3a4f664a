"""When a question is asked again, and when it is given up."""

import json
import math
from collections.abc import Callable
from typing import Generic, TypeVar

from nlp_app.client.errors import ServerRefused, ServerUnreachable, UnexpectedAnswer
from nlp_app.client.exchange import Answer, Failure, Question

T = TypeVar("T")
BUSY = (429, 503)
"""Statuses that ask for patience."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
"""The most that is waited after the first request, doubled after each, and the most after any."""
HEAD_START_S = 0.05
"""By how much the server gives up before its client, which so learns why."""


class Turn(Generic[T]):
    """A question from its first request to its answer."""

    def __init__(
        self,
        *,
        question: Question[T],
        retries: int,
        timeout_s: float,
        clock: Callable[[], float],
        uniform: Callable[[], float],
    ) -> None:
        self.question = question
        self.answer: T
        self._requests = 0
        self._retries = retries
        self._clock = clock
        self._uniform = uniform
        self._began = clock()
        self._until = self._began + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds before it gives up; never 0, which would mean no limit to some."""
        return max(self._until - self._clock(), 0.001)

    @property
    def over(self) -> bool:
        """Whether its time has passed."""
        return self._clock() >= self._until

    def headers(self) -> dict[str, str]:
        """Those of the next request."""
        left_s = self.left_s
        return {"X-Request-Timeout-Ms": str(math.ceil(1000 * max(left_s - HEAD_START_S, left_s / 2)))}

    def take(self, outcome: Answer | Failure) -> float | None:
        """Take what a request came to.

        Returns:
            None where `answer` holds the answer, else the seconds to wait before asking again.

        Raises:
            ServerRefused, ServerUnreachable, UnexpectedAnswer: there will be none.
        """
        self._requests += 1
        if isinstance(outcome, Answer) and outcome.status not in BUSY:
            self.answer = self._read(outcome)
            return None
        wait_s = self._wait_s(outcome)
        if self._requests > self._retries or self._clock() + wait_s >= self._until:
            raise self._unreachable(outcome)
        return wait_s

    def _wait_s(self, outcome: Answer | Failure) -> float:
        """As long as the server says, and by chance longer, so that not all who were told the same return at once."""
        told = outcome.retry_after_s() if isinstance(outcome, Answer) else 0.0
        most = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._requests - 1, 64))
        return told + self._uniform() * most

    def _read(self, answer: Answer) -> T:
        if answer.status != 200:
            raise self._refused(answer.status, answer.detail())
        try:
            return self.question.read(json.loads(answer.body))
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            pass  # its message may hold a text
        raise UnexpectedAnswer(f"{self._place} was answered, but not as an nlp_app server does: check base_url")

    def _refused(self, status: int, detail: str) -> ServerRefused:
        why = detail or "it gave no reason, as an nlp_app server would: check base_url, and any proxy before the server"
        return ServerRefused(f"{self._place} was refused with {status}: {why}", status=status, detail=detail)

    def _unreachable(self, outcome: Answer | Failure) -> ServerUnreachable:
        status, detail = (outcome.status, outcome.detail()) if isinstance(outcome, Answer) else (None, "")
        why = outcome.reason if isinstance(outcome, Failure) else f"{status}: {detail or 'no reason given'}"
        requests = "1 request" if self._requests == 1 else f"{self._requests} requests"
        times = f"{requests} and {self._clock() - self._began:.1f} s"
        return ServerUnreachable(
            f"{self._place} got no answer in {times} ({why}): see whether the server runs at base_url, or allow more "
            "retries or a longer timeout_s",
            status=status,
            detail=detail,
        )

    @property
    def _place(self) -> str:
        return f"{self.question.method} {self.question.url}{self.question.about}"
