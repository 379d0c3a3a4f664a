"""OpenTelemetry traces, an extra: a span a request, sent to where the standard OTEL_* variables say.

Imported where --traces asks for it alone; then every request goes the usual way, which has one place for spans.
"""

import os
import threading
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nlp_app.errors import ConfigError
from serving.logs import LONGEST_PATH

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.propagate import extract
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind, StatusCode, use_span
except ModuleNotFoundError as error:
    raise ConfigError(
        f"--traces needs the package {error.name}, which is not there: pip install 'nlp_app[traces]'"
    ) from None

SECONDS_TO_SEND = 3.0
"""What is left at the end may take so long; a collector that hangs holds nobody up."""
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}


class Traces:
    """Where spans go; a thread of its own sends them, and drops them where nobody takes them."""

    def __init__(self) -> None:
        named: Mapping[str, str] = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "nlp_app"}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.tracer = self._provider.get_tracer("nlp_app.serving")

    def close(self) -> None:
        """Send what is left, within SECONDS_TO_SEND."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(SECONDS_TO_SEND)


class Traced:
    """A pure ASGI middleware around all others: a span of each request, child of the one that its client names."""

    def __init__(self, app: ASGIApp, *, traces: Traces) -> None:
        self._app = app
        self._tracer = traces.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "HTTP"
        path = scope["path"][:LONGEST_PATH]
        told = {"http.request.method": method, "url.path": path, "url.scheme": scope["scheme"]}
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        span = self._tracer.start_span(method, extract(headers), SpanKind.SERVER, told)
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, noted)
            except Exception:
                span.set_status(StatusCode.ERROR)  # of its words, which may hold a text, nothing
                raise
            finally:
                if route := _route(scope):
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)


def _route(scope: Scope) -> str:
    """As the application writes it; of what it answers before its routes, the path, which is one of few."""
    found: Any = scope.get("route")
    return str(scope.get("answers", "") if found is None else found.path)
