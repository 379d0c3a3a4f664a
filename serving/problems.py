"""Refusals: every 4xx and 5xx body is {"detail": one sentence}, and none repeats what the client sent."""

import logging
from collections.abc import Mapping

from starlette.responses import JSONResponse

logger = logging.getLogger(__name__)


class Refused(Exception):
    """A request that gets no prediction."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    @property
    def headers(self) -> Mapping[str, str]:
        """Beside those of the body."""
        return _HEADERS.get(self.status, {})

    def response(self, key: str = "detail") -> JSONResponse:
        """The answer to send."""
        return JSONResponse({key: self.detail}, self.status, headers=self.headers)


def key_of(path: str) -> str:
    """What a refusal is called in the JSON of the systems that a path belongs to."""
    return "error" if f"{path}/".startswith(("/v2/", "/hf/")) else "detail"


def too_large(max_bytes: int) -> Refused:
    """A body over the limit."""
    return Refused(413, f"the body is larger than {max_bytes:,} bytes: send fewer or shorter texts in one request")


def too_busy() -> Refused:
    """A request for which the queue has no room."""
    return Refused(429, "more texts are waiting than may: ask again in a second")


def expired() -> Refused:
    """A request whose time has passed."""
    return Refused(504, "the texts were not answered in time: ask again, with fewer or with a longer timeout")


def failed(error: BaseException) -> Refused:
    """A fault of ours, which the log tells of."""
    logger.error("a request failed", exc_info=error)
    return Refused(500, "the server failed at this request: its log says how")


def malformed(message: str) -> Refused:
    """JSON that breaks a rule, by what msgspec says of it: a fault, and for a field where it is, as `$.inputs[3]`."""
    fault, _, place = message.rstrip("`").partition(" - at `$.")
    if "unknown field" in fault:
        return Refused(422, "the body has a field other than inputs, top_k and explain: leave it out")
    if "missing required field" in fault:
        return Refused(422, 'inputs: is missing: send {"inputs": "a text"} or {"inputs": ["a text", "another"]}')
    if not place:
        return Refused(422, 'the body: must be an object such as {"inputs": "a text"}')
    return Refused(422, f"{place}: {_RULES.get(place, 'must be a string')}")


_HEADERS = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}, 503: {"retry-after": "1"}}
_RULES = {
    "inputs": "must be a string or a list of strings",
    "top_k": "must be a whole number",
    "explain": "must be true or false",
}
