"""The cases of benchmarks.fuzz: requests that are nearly right, and bytes that are hardly HTTP; a number makes each."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

SECRET = "zqsecret"  # noqa: S105
"""Stands in texts: no log may hold it."""
FORGED = "zqforged"
"""Stands in what a client may have logged."""
RAW = 0.25
"""The share of cases whose framing is wrong too."""
LINE = f'{{"level":"error","logger":"serving","message":"{FORGED}"}}'
TEXTS = ("where is my card", f"{SECRET} charged twice", "", "💳 карта 木水", "a" * 3000, "\\ud800", "\\u0000")
KINDS = ("application/json", "text/plain", "application/json; charset=latin-1", "", "application/octet-stream", "*/*")
ODD = (
    b"\x00",
    b"\xff\xfe",
    b"\r\n",
    b"\n",
    b'"',
    b"\\",
    b"\\ud800",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 400,
    b"{}",
    b"[[",
)
DEEP = (b"[" * 5000, b'{"inputs":' * 2000, b'"\\u' * 300)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is sent on a connection."""

    data: bytes
    whole: bool
    """Whether it is one request, framed right, so that one answer must come and the connection may go on."""


def make_case(seed: int, number: int, name: str) -> Case:
    """The same for the same seed and number; `name` is the model's."""
    draw = random.Random(f"{seed} {number}")
    path, headers, body = draw.choice(REQUESTS)(draw, name)
    for _ in range(draw.choice((0, 1, 1, 2, 5))):
        body = draw.choice(CHANGES)(draw, body)
    headers += _headers(draw)
    if draw.random() >= RAW:
        return Case(data=_framed("POST", path, [*headers, f"Content-Length: {len(body)}"], body), whole=True)
    return Case(data=draw.choice(BREAKS)(draw, path, headers, body), whole=False)


Request = tuple[str, list[str], bytes]


def _text(draw: random.Random) -> str:
    return draw.choice(TEXTS)


def _predict(draw: random.Random, name: str) -> Request:
    inputs: object = _text(draw) if draw.random() < 0.5 else [_text(draw) for _ in range(draw.randrange(40))]
    options: list[dict[str, object]] = [{}, {"top_k": draw.choice((1, 3, 0, -1, 2.5, 10**30))}, {"explain": True}]
    rest = draw.choice(options)
    path = draw.choice(("/predict", f"/models/{name}/predict", "/predict?a=b", f"/models/{FORGED}%0a{LINE}/predict"))
    return path.replace(" ", "%20").replace('"', "%22"), [], json.dumps({"inputs": inputs, **rest}).encode()


def _stream(draw: random.Random, name: str) -> Request:
    lines = [json.dumps({"inputs": _text(draw)}).encode() for _ in range(draw.randrange(8))]
    return draw.choice(("/predict/stream", f"/models/{name}/predict/stream")), [], b"\n".join(lines)


def _infer(draw: random.Random, name: str) -> Request:
    texts = [_text(draw) for _ in range(draw.randrange(1, 5))]
    tensor: dict[str, object] = {
        "name": "text",
        "datatype": "BYTES",
        "shape": [draw.choice((len(texts), 0, -1, 2**40))],
    }
    path = f"/v2/models/{name}/infer"
    if draw.random() < 0.5:
        return path, [], json.dumps({"inputs": [tensor | {"data": texts}]}).encode()
    data = b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in texts)
    size = draw.choice((len(data), len(data), 0, -5, 10**12))
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": size}}]}).encode()
    told = draw.choice((len(head), len(head), 0, 10**9, -1))
    return path, [f"Inference-Header-Content-Length: {told}"], head + data


def _hugging_face(draw: random.Random, name: str) -> Request:
    parameters = {"top_k": draw.choice((1, None, "x")), "function_to_apply": draw.choice(("softmax", "none", 3))}
    return f"/hf/{name}", [], json.dumps({"inputs": _text(draw), "parameters": parameters}).encode()


REQUESTS: tuple[Callable[[random.Random, str], Request], ...] = (
    _predict,
    _predict,
    _stream,
    _infer,
    _infer,
    _hugging_face,
)


def _flip(draw: random.Random, body: bytes) -> bytes:
    place = draw.randrange(len(body) + 1)
    return body[:place] + bytes([draw.randrange(256)]) + body[place + 1 :]


def _cut(draw: random.Random, body: bytes) -> bytes:
    return body[: draw.randrange(len(body) + 1)]


def _insert(draw: random.Random, body: bytes) -> bytes:
    place = draw.randrange(len(body) + 1)
    return body[:place] + draw.choice(ODD) + body[place:]


def _repeat(draw: random.Random, body: bytes) -> bytes:
    start, stop = sorted(draw.randrange(len(body) + 1) for _ in range(2))
    return body[:stop] + body[start:stop] * draw.randrange(1, 4) + body[stop:]


def _deep(draw: random.Random, body: bytes) -> bytes:
    return draw.choice(DEEP) + body if draw.random() < 0.2 else body


def _retype(draw: random.Random, body: bytes) -> bytes:
    old, new = draw.choice(
        ((b'"inputs"', b'"inputs": null, "inputs"'), (b"[", b"{"), (b": ", b": 1e400, "), (b'"', b""))
    )
    return body.replace(old, new, draw.randrange(1, 3))


CHANGES = (_flip, _cut, _insert, _repeat, _deep, _retype)


def _headers(draw: random.Random) -> list[str]:
    found = [f"Content-Type: {draw.choice(KINDS) if draw.random() < 0.2 else KINDS[0]}"]
    if draw.random() < 0.3:
        odd = (f"{FORGED} {LINE}", "a" * 500, "ok-1", f"é{FORGED}", "", f'"}},{{"x":"{FORGED}')
        found.append(f"X-Request-Id: {draw.choice(odd)}")
    if draw.random() < 0.1:
        found.append(f"X-Request-Timeout-Ms: {draw.choice(('0', '-1', '1e9', 'nan', '5000', '9' * 40, ''))}")
    if draw.random() < 0.05:
        found.append(
            draw.choice(("Content-Encoding: gzip", "Expect: 100-continue", "Authorization: Bearer x", "Upgrade: h2c"))
        )
    return found


def _framed(method: str, path: str, headers: list[str], body: bytes) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body


def _wrong_length(draw: random.Random, path: str, headers: list[str], body: bytes) -> bytes:
    told = draw.choice((str(len(body) + 9), str(max(0, len(body) - 3)), "-1", "x", "9" * 30, "1, 2", "0x10", ""))
    return _framed("POST", path, [*headers, f"Content-Length: {told}"], body)


def _both(draw: random.Random, path: str, headers: list[str], body: bytes) -> bytes:
    chunked = (
        f"Transfer-Encoding: {draw.choice(('chunked', 'chunked, chunked', 'identity', ' chunked', 'gzip, chunked'))}"
    )
    return _framed(
        "POST", path, [*headers, chunked, f"Content-Length: {len(body)}"], b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    )


def _chunks(draw: random.Random, path: str, headers: list[str], body: bytes) -> bytes:
    size = draw.choice(
        (b"%x" % len(body), b"%x;ext=1" % len(body), b"-1", b"zz", b"f" * 40, b"", b"%x" % (len(body) + 1))
    )
    end = draw.choice((b"0\r\n\r\n", b"0\r\nX-Trailer: y\r\n\r\n", b"", b"0\n\n"))
    return _framed("POST", path, [*headers, "Transfer-Encoding: chunked"], size + b"\r\n" + body + b"\r\n" + end)


def _bad_line(draw: random.Random, path: str, headers: list[str], body: bytes) -> bytes:
    method = draw.choice(("GET", "PUT", "CONNECT", "P\x00ST", FORGED, "post", "", "OPTIONS", "TRACE"))
    where = draw.choice(
        (path, f"{path}\n{LINE}", f"/{FORGED}\x1b[31m", "*", f"http://x{path}", "//", "/" + "a" * 70_000, f"/é{FORGED}")
    )
    return _framed(method, where, [*headers, f"Content-Length: {len(body)}"], body)


def _bad_header(draw: random.Random, path: str, headers: list[str], body: bytes) -> bytes:
    odd = (
        "X-Request-Id: a\n" + LINE,
        "X-Request-Id: a\rb",
        "No colon",
        ": none",
        "X: \x00",
        " folded",
        "Host: y",
        "X: " + "a" * 70_000,
    )
    several = [f"X-{number}: y" for number in range(draw.choice((0, 0, 300)))]
    return _framed("POST", path, [*headers, draw.choice(odd), *several, f"Content-Length: {len(body)}"], body)


def _pipelined(draw: random.Random, path: str, headers: list[str], body: bytes) -> bytes:
    one = _framed("POST", path, [*headers, f"Content-Length: {len(body)}"], body)
    return one * draw.randrange(2, 6) + draw.choice((b"", b"\r\n\r\n", one[: draw.randrange(len(one))]))


def _noise(draw: random.Random, path: str, headers: list[str], body: bytes) -> bytes:  # noqa: ARG001
    return draw.choice(
        (
            draw.randbytes(draw.randrange(400)),
            b"\x16\x03\x01" + draw.randbytes(200),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        )
    )


BREAKS = (_wrong_length, _both, _chunks, _bad_line, _bad_header, _pipelined, _noise)
