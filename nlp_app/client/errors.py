"""Why a server gave no prediction.

    NlpAppError
    `-- ServerError              the server gave no prediction
        |-- ServerRefused        it said why; asking again would not help
        |-- ServerUnreachable    every request that was allowed came to nothing
        `-- UnexpectedAnswer     it answered with something else than predictions

No message holds a text or a key.
"""

from nlp_app.errors import NlpAppError


class ServerError(NlpAppError):
    """The server gave no prediction."""


class ServerRefused(ServerError):
    """The server refused the request, and would again."""

    def __init__(self, message: str, *, status: int, detail: str) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
        """The server's own sentence; empty where it gave none."""


class ServerUnreachable(ServerError):
    """No answer came within the retries and the time that were allowed."""

    def __init__(self, message: str, *, status: int | None, detail: str) -> None:
        super().__init__(message)
        self.status = status
        """429 or 503 where the last request got that; None where it got nothing."""
        self.detail = detail


class UnexpectedAnswer(ServerError):
    """What came is no answer of an nlp_app server."""
