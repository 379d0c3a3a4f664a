"""Refusals: every 4xx and 5xx body is {"detail": one sentence}, and none repeats what the client sent."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.responses import JSONResponse

FIELDS = ("inputs", "top_k", "explain")
BRANCH = 2
"""Length of the place of an error in a branch of a union; an item's is longer by its number."""


class Refused(Exception):
    """A request that gets no prediction."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    def response(self) -> JSONResponse:
        """The answer to send."""
        headers = {"Retry-After": "1"} if self.status in (429, 503) else None
        return JSONResponse({"detail": self.detail}, self.status, headers=headers)


def too_large(max_bytes: int) -> Refused:
    """A body over the limit."""
    return Refused(413, f"the body is larger than {max_bytes:,} bytes: send fewer or shorter texts in one request")


def too_busy() -> Refused:
    """A request for which the queue has no room."""
    return Refused(429, "more texts are waiting than may: ask again in a second")


def expired() -> Refused:
    """A request whose time has passed."""
    return Refused(504, "the texts were not answered in time: ask again, with fewer or with a longer timeout")


def parse(body: bytes) -> Any:
    """The JSON of a body, of which nothing is checked but its fields: pydantic would make an error of each wrong one.

    Raises:
        Refused: it is not JSON, lacks a field, or has an unknown one.
    """
    try:
        values = from_json(body)
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if isinstance(values, dict) and "inputs" not in values:
        raise Refused(422, 'inputs: is missing: send {"inputs": "a text"} or {"inputs": ["a text", "another"]}')
    if isinstance(values, dict) and not values.keys() <= set(FIELDS):
        raise Refused(422, f"the body has a field other than {', '.join(FIELDS[:-1])} and {FIELDS[-1]}: leave it out")
    return values


def malformed(error: ValidationError) -> Refused:
    """JSON that is no PredictRequest."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    # Of a union's errors those that got furthest: the first of a list's items, or the last, which is the list's own.
    furthest = max(len(detail["loc"]) for detail in details)
    found = [detail for detail in details if len(detail["loc"]) == furthest]
    worst = found[0 if len(found[0]["loc"]) > BRANCH else -1]
    return Refused(422, f"{_where(worst['loc'])}: {_RULES.get(worst['type'], worst['msg'])}")


def _where(loc: tuple[Any, ...]) -> str:
    """('inputs', 'list[constrained-str]', 3) -> 'inputs[3]'; the middle part names the branch of a union."""
    if not loc:
        return "the body"
    return str(loc[0]) + "".join(f"[{part}]" for part in loc[1:] if isinstance(part, int))


_RULES = {
    "string_type": "must be a string",
    "list_type": "must be a string or a list of strings",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "greater_than_equal": "must be 1 or more",
    "model_type": 'must be an object such as {"inputs": "a text"}',
    "model_attributes_type": 'must be an object such as {"inputs": "a text"}',
}
