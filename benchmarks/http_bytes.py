"""Requests and answers as the bytes that they are."""

import json
import re

from benchmarks.servers import HOST

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def body_of(text: object, **others: object) -> bytes:
    """The JSON of a request."""
    return json.dumps({"inputs": text, **others}, ensure_ascii=False).encode()


def request_of(body: bytes, *headers: str, path: str = "/predict") -> bytes:
    """A whole POST of JSON."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {HOST}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + HEAD_END + body


def whole_answer(data: bytes) -> tuple[int, bytes] | None:
    """The status and the body of an answer; None while some of it is missing."""
    head = data.find(HEAD_END)
    if head < 0:
        return None
    length = LENGTH.search(data, 0, head)
    body = data[head + len(HEAD_END) :]
    if length is None or len(body) < int(length[1]):
        return None
    return int(data[9:12]), body
