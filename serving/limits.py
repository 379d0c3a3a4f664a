"""A pure ASGI middleware before the framework: the fast path, and a limit on what the other paths read of a body."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import too_large
from serving.requests import declared

STREAM = "/predict/stream"
"""Ends the paths whose bodies have no end of their own."""


class FastPath:
    """Answers some paths itself; of the others' bodies it reads no more than it may.

    BaseHTTPMiddleware costs half the throughput, the framework's routing, dependencies and exit stacks a third.
    """

    def __init__(self, app: ASGIApp, *, posts: Mapping[bytes, ASGIApp], max_bytes: int) -> None:
        self._app = app
        self._posts = posts
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] == "POST" and (fast := self._posts.get(scope.get("raw_path", b""))) is not None:
            await fast(scope, receive, send)
        elif scope["path"].endswith(STREAM):
            await self._app(scope, receive, send)
        elif declared(dict(scope["headers"])) > self._max_bytes:
            await too_large(self._max_bytes).response()(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise too_large(self._max_bytes)
            return message

        return counted
