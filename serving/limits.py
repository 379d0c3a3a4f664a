"""A pure ASGI middleware before the framework: the fast path, and a limit on what the other paths read of a body."""

import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.keys import Keys
from serving.logs import log_request, request_id
from serving.measures import Measures
from serving.problems import Refused, failed, key_of, too_large
from serving.requests import declared

OPEN = ("/health/", "/v2/health/")
"""Asked by orchestrators, which have no key."""
STREAM = "/predict/stream"
"""Ends the paths whose bodies have no end of their own."""


class FastPath:
    """Answers some paths itself; the others need a key too, and of their bodies it reads no more than it may.

    BaseHTTPMiddleware costs half the throughput, the framework's routing, dependencies and exit stacks a third.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        posts: Mapping[bytes, ASGIApp],
        max_bytes: int,
        keys: Keys,
        measures: Measures,
        access_log: bool,
    ) -> None:
        self._app = app
        self._access_log = access_log
        self._measures = measures
        self._keys = keys
        self._posts = posts
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send, begun = self._measured(scope, send), False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._handle(scope, receive, noted)
        except Exception as error:
            refused = failed(error)
            if begun:  # and cannot be taken back: the server cuts it off
                raise
            await refused.response(key_of(scope["path"]))(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and (fast := self._posts.get(scope.get("raw_path", b""))) is not None:
            scope["answers"] = scope["path"]
            await fast(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def _rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path = dict(scope["headers"]), scope["path"]
        try:
            if not path.startswith(OPEN):
                self._keys.check(headers)
            if declared(headers) > self._max_bytes and not path.endswith(STREAM):
                raise too_large(self._max_bytes)
        except Refused as refused:
            await refused.response(key_of(path))(scope, receive, send)
        else:
            await self._app(scope, receive if path.endswith(STREAM) else self._counted(receive), send)

    def _measured(self, scope: Scope, send: Send) -> Send:
        started, number = time.perf_counter(), request_id(dict(scope["headers"]))
        asked = not scope["path"].startswith(OPEN)

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                status, seconds = message["status"], time.perf_counter() - started
                if asked:
                    self._measures.answered(status, seconds)
                message["headers"] = [*message.get("headers", []), (b"x-request-id", number)]
                if self._access_log:
                    told = {"method": scope["method"], "path": scope["path"], "status": status}
                    log_request(number=number, seconds=seconds, **told)
            await send(message)

        return measured

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
