"""POST /predict as a pure ASGI application: the layers of a framework would cost as much as the model."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.inference import Inference
from serving.keys import Keys
from serving.models import Slot
from serving.problems import Refused, failed, too_large
from serving.requests import check_headers, read_items, timeout_s
from serving.settings import Settings

KIND = (b"content-type", b"application/json")


class Predict:
    """Answers the requests of one model."""

    def __init__(self, *, slot: Slot, settings: Settings, keys: Keys) -> None:
        self.settings = settings
        self.keys = keys
        self._slot = slot

    @property
    def inference(self) -> Inference:
        """What answers now; a request keeps to it until its answer, whatever is loaded meanwhile."""
        return self._slot.current

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        try:
            body = await self._answer(scope, receive)
        except Refused as refused:
            await refused.response()(scope, receive, send)
        except ClientDisconnect:  # nobody is there to be told
            return
        except Exception as error:
            await failed(error).response()(scope, receive, send)
        else:
            length = (b"content-length", str(len(body)).encode())
            await send({"type": "http.response.start", "status": 200, "headers": [KIND, length]})
            await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        started = asyncio.get_running_loop().time()
        headers = dict(scope["headers"])
        self.keys.check(headers)
        check_headers(headers, self.settings)
        deadline = started + timeout_s(headers, self.settings)
        items = read_items(await read_body(receive, self.settings.max_body_bytes), self.settings)

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        return await self.inference.ask(items, deadline, gone)


class Answer(Response):
    """The endpoint as a response of the framework, whose routes end in one."""

    def __init__(self, endpoint: Predict) -> None:
        super().__init__()
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request."""
        await self._endpoint(scope, receive, send)


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The whole body, and no more of it than that.

    Starlette's own max_body_size is not applied by FastAPI (fastapi#16338).

    Raises:
        Refused: 413, it is larger.
        ClientDisconnect: the client has gone before it was whole.
    """
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
