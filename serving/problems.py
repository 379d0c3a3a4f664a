"""Refusals: every 4xx and 5xx body is {"detail": one sentence}, and none repeats what the client sent."""

from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse


class Refused(Exception):
    """A request that gets no prediction."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    def response(self) -> JSONResponse:
        """The answer to send."""
        headers = {"Retry-After": "1"} if self.status == 503 else None
        return JSONResponse({"detail": self.detail}, self.status, headers=headers)


def too_large(max_bytes: int) -> Refused:
    """A body over the limit."""
    return Refused(413, f"the body is larger than {max_bytes:,} bytes: send fewer or shorter texts in one request")


def malformed(error: ValidationError) -> Refused:
    """A body that is not JSON, or not a PredictRequest."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    # Of a union's errors the one that got furthest; where all stopped at once, the last, which is that of the list.
    worst = max(reversed(details), key=lambda detail: (detail["type"] == "missing", len(detail["loc"])))
    if worst["type"] == "json_invalid":
        return Refused(400, f"the body is not JSON: {worst['msg'].removeprefix('Invalid JSON: ')}")
    return Refused(422, f"{_where(worst['loc'])}: {_RULES.get(worst['type'], worst['msg'])}")


def _where(loc: tuple[Any, ...]) -> str:
    """('inputs', 'list[constrained-str]', 3) -> 'inputs[3]'; the middle part names the branch of a union."""
    if not loc:
        return "the body"
    return str(loc[0])[:64] + "".join(f"[{part}]" for part in loc[1:] if isinstance(part, int))


_RULES = {
    "missing": 'is missing: send {"inputs": "a text"} or {"inputs": ["a text", "another"]}',
    "extra_forbidden": "is not a field of this request: the fields are inputs and top_k",
    "string_type": "must be a string",
    "list_type": "must be a string or a list of strings",
    "int_type": "must be a whole number",
    "greater_than_equal": "must be 1 or more",
    "model_type": 'must be an object such as {"inputs": "a text"}',
    "model_attributes_type": 'must be an object such as {"inputs": "a text"}',
}
