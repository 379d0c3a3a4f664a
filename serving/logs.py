"""Logs: lines of text or of JSON, one a record whatever a client sent, and none of its texts.

With --access-log each request has a line, with the id that its client gave it (X-Request-Id) or one made here. With
--log-texts each text has one, and only then.
"""

import itertools
import json
import logging
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
"""What is taken for an id; nothing else that a client sends stands in a log."""
LONGEST_PATH = 200
STARTED, COUNT = secrets.token_hex(4).encode(), itertools.count(1)
"""Of an id that is made here: of the process, and of the request in it."""
logger = logging.getLogger("serving.access")
logger_of_texts = logging.getLogger("serving.texts")


class Lines(logging.Formatter):
    """Text: line ends of a record are escaped; a traceback is indented, so that no line of it looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """One line."""
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Indented; an exception's message may hold what a client sent."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """The same of where a record was made."""
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    """However its lines end: to some readers a form feed or U+2028 ends one too."""
    return "\n".join(f"    {line}" for line in text.splitlines())


class Json(logging.Formatter):
    """A JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's time, level, logger and message, and what a request was."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "request", {}),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


def log_config(kind: str, level: str) -> dict[str, Any]:
    """For logging.config.dictConfig: all to standard error."""
    formatter = {"()": Json} if kind == "json" else {"()": Lines, "format": "%(levelname)s: %(message)s"}
    quiet = {"level": level.upper()}
    of_headers = {"opentelemetry." + name: {"level": "ERROR"} for name in ("baggage", "trace")}  # they warn of clients'
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"one": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "one"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "uvicorn": quiet,
            "uvicorn.error": quiet,
            "serving": quiet,
            "serving.access": {"level": "INFO"},
            "serving.texts": {"level": "INFO"},
            **of_headers,
        },
    }


def request_id(headers: Mapping[bytes, bytes]) -> bytes:
    """The one that the client gave, where it is one; else a new one."""
    given = headers.get(b"x-request-id", b"")
    return given if ID.fullmatch(given) else b"%s%08x" % (STARTED, next(COUNT))


def log_request(*, number: bytes, method: str, path: str, status: int, seconds: float) -> None:
    """A line of the access log."""
    found = number.decode()
    path = path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}…"
    request = {"id": found, "method": method, "path": path, "status": status, "ms": round(1000 * seconds, 2)}
    text = f"{found} {method} {ascii(path)[1:-1]} {status} {1000 * seconds:.2f} ms"
    logger.info("%s", text, extra={"request": request})


def log_text(text: str, label: str, score: float) -> None:
    """A line for a text, and what it was taken for; a text holds whatever a client likes, so that it is escaped."""
    told = {"text": text, "label": label, "score": score}
    logger_of_texts.info("%s %s %.4f", json.dumps(text), ascii(label), score, extra={"request": told})
