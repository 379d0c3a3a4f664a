"""A pure ASGI middleware that reads no more of a body than it may."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import too_large


class BodyLimit:
    """Refuses bodies over a size: by Content-Length before a byte is read, and by counting what comes.

    Starlette's own max_body_size is not applied by FastAPI (fastapi#16338), and BaseHTTPMiddleware costs half the
    throughput.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and _declared_bytes(scope) > self._max_bytes:
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


def _declared_bytes(scope: Scope) -> int:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(declared) if declared.isdigit() else 0
