"""Texts as JSON, and how many of them a request holds."""

import json
from collections.abc import Iterable, Iterator, Sequence

from nlp_app.errors import ConfigError

MAX_TEXT_BYTES = 1_000_000
"""Of the texts of one request as JSON; the server takes 2 MiB by default. A longer text goes alone."""


def encode(texts: Iterable[str]) -> list[bytes]:
    """Each text as JSON."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise ConfigError(f"texts is one {type(texts).__name__}, but must be a list of str: write [text]")
    return [_encode_one(text, place) for place, text in enumerate(texts)]


def _encode_one(text: str, place: int) -> bytes:
    if not isinstance(text, str):
        raise ConfigError(f"texts[{place}] is a {type(text).__name__}, but must be a str: convert it or leave it out")
    try:
        return json.dumps(text, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        pass  # it holds the text
    raise ConfigError(f"texts[{place}] holds half of a surrogate pair, which is no character: replace it")


def spans(encoded: Sequence[bytes], most: int) -> Iterator[tuple[int, int]]:
    """Where each batch starts and stops."""
    start = size = 0
    for place, text in enumerate(encoded):
        if place > start and (place - start == most or size + len(text) > MAX_TEXT_BYTES):
            yield start, place
            start, size = place, 0
        size += len(text) + 1
    if encoded:
        yield start, len(encoded)
