"""A request to /predict that the protocol answers itself: no task, no ASGI messages, one write.

In place of uvicorn's RequestResponseCycle, whose attributes the protocol reads; the layers between them cost more
than the model does.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serving.endpoint import Predict
from serving.inference import Inference
from serving.logs import log_request, request_id
from serving.measures import Measures
from serving.problems import Refused, failed, too_large
from serving.requests import check_headers, read_items, timeout_s

KIND = b"content-type: application/json\r\ncontent-length: "
CLOSE = b"connection: close\r\n\r\n"
END = b"\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


logger = logging.getLogger(__name__)


class Signal:
    """In place of the event that tells a task of a change: there is no task."""

    def set(self) -> None:
        """Nobody waits."""


class Direct:
    """One request, from its headers to its answer."""

    message_event = Signal()

    def __init__(
        self,
        *,
        endpoint: Predict,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        path: str,
        headers: list[tuple[bytes, bytes]],
        keep_alive: bool,
        default_headers: bytes,
        on_response: Callable[[], None],
        measures: Measures,
    ) -> None:
        self.keep_alive = keep_alive
        self.disconnected = self.response_complete = False
        self.more_body = True
        self.body = bytearray()
        self._endpoint = endpoint
        self._transport = transport
        self._came = loop.time()  # whole milliseconds: it is what deadlines are told in
        self._started = time.perf_counter()
        self._path = path
        self._headers = dict(headers)
        self._default_headers = default_headers
        self._on_response = on_response
        self._measures = measures
        self._inference: Inference
        self._answers: asyncio.Future[list[bytes]] | None = None

    def begin(self, expects_continue: bool) -> None:
        """Look at the headers, before a byte of the body is there."""
        try:
            self._endpoint.keys.check(self._headers)
            check_headers(self._headers, self._endpoint.settings)
        except Refused as refused:
            self._refuse(refused)
        else:
            if expects_continue:
                self._transport.write(CONTINUE)

    def take(self, chunk: bytes) -> None:
        """A part of the body."""
        self.body += chunk
        if len(self.body) > self._endpoint.settings.max_body_bytes:
            self.body.clear()
            self._refuse(too_large(self._endpoint.settings.max_body_bytes))

    def end(self) -> None:
        """The body is whole."""
        limits = self._endpoint.settings
        self._inference = self._endpoint.inference  # not before: one that was replaced meanwhile takes no more texts
        try:
            deadline = self._came + timeout_s(self._headers, limits)
            items = read_items(bytes(self.body), limits)
            if not items:
                _ = self._inference.batcher  # refuses where there is none
                self._respond(200, self._inference.body([]))
            else:
                self._answers = self._inference.submit(items, deadline).answers
                self._answers.add_done_callback(self._answer)
        except Refused as refused:
            self._refuse(refused)

    def abandon(self) -> None:
        """The client has gone: nothing more is computed for it."""
        if self._answers is not None:
            self._answers.cancel()

    def _answer(self, answers: "asyncio.Future[list[bytes]]") -> None:
        if answers.cancelled():
            return
        error = answers.exception()
        if error is None:
            self._respond(200, self._inference.body(answers.result()))
        else:
            self._refuse(error if isinstance(error, Refused) else failed(error))

    def _refuse(self, refused: Refused) -> None:
        extra = b"".join(f"{name}: {value}\r\n".encode() for name, value in refused.headers.items())
        self._respond(refused.status, to_json({"detail": refused.detail}), extra)

    def _respond(self, status: int, body: bytes, extra: bytes = b"") -> None:
        if self.disconnected or self.response_complete:
            return
        self.response_complete = True
        seconds, number = time.perf_counter() - self._started, request_id(self._headers)
        self._measures.answered(status, seconds)
        extra += b"x-request-id: %s\r\n" % number
        if self._endpoint.settings.access_log:
            log_request(number=number, method="POST", path=self._path, status=status, seconds=seconds)
        length = str(len(body)).encode()
        end = END if self.keep_alive else CLOSE
        head = (STATUS_LINE[status], self._default_headers, extra, KIND, length, END, end, body)
        self._transport.write(b"".join(head))
        if not self.keep_alive:
            self._transport.close()
        self._on_response()
