"""Text to ids: the only encoding and the only padding of the project, for training and serving alike."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

from nlp_app.errors import ConfigError, TokenizerError

PAD_ID, UNK_ID = 0, 1
SPECIAL_TOKENS = ["[PAD]", "[UNK]"]
KINDS = ("words", "subwords")
WORD_START = "▁"

# A token is one letter of a script that is written without spaces, or a run of letters, marks and digits,
# or one symbol: an emoji, a comma.
TOKEN_PATTERN = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}\p{N}_]+|[^\s]"  # noqa: S105

# The same tokens where a lower-cased text is ASCII.
ASCII_TOKEN = re.compile(r"[a-z0-9_]+|[^\s]", re.ASCII)

# Text is cut at this many characters a token before it is encoded, so that 10 MB cost no more than a page:
# English has about 5.5 characters a token (IMDb reviews), so the cut is out of reach but for text without words.
CHARACTERS_PER_TOKEN = 32

# The library's own encodings take some 100 bytes a token: they are made and dropped so many texts at a time.
TEXTS_PER_CHUNK = 1024


class Tokens(NamedTuple):
    """The ids of one text, not padded yet."""

    input_ids: NDArray[np.int32]
    """(T,), at least one id: a blank text is one UNK_ID."""
    truncated: bool
    """True where the text was longer than the maximum."""


class Tokenizer:
    """Words or subwords, normalised with NFKC and lower-cased; wraps a tokenizer of the `tokenizers` library."""

    def __init__(self, *, backend: tokenizers.Tokenizer) -> None:
        special = [backend.id_to_token(PAD_ID), backend.id_to_token(UNK_ID)]
        if special != SPECIAL_TOKENS:
            raise TokenizerError(f"the tokenizer's first two tokens are {special}, but must be {SPECIAL_TOKENS}")
        # A text that says [PAD] is a text: taken for padding, it would leave nothing to look at, and a score of NaN.
        backend.encode_special_tokens = True
        self._backend = backend
        self._words = backend.get_vocab() if _takes_words(backend) else None
        """Of a tokenizer of words: with it an ASCII text takes 3 us, where the library takes 12."""

    @classmethod
    def train(cls, texts: Iterable[str], *, kind: str, vocab_size: int, min_frequency: int) -> Self:
        """Learn a vocabulary from texts; the same texts give the same vocabulary.

        Args:
            texts: the training texts, and no others.
            kind: "words", or "subwords" (byte-pair encoding).
            vocab_size: tokens at most, the two special ones included.
            min_frequency: a token seen less often is left out.
        """
        backend, trainer = _untrained(kind, vocab_size, min_frequency)
        backend.train_from_iterator(texts, trainer)
        return cls(backend=backend)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what to_bytes gave.

        Raises:
            TokenizerError: the bytes are no tokenizer.
        """
        try:
            backend = tokenizers.Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises nothing narrower
            raise TokenizerError(f"not a tokenizer file: {error}") from None
        return cls(backend=backend)

    def to_bytes(self) -> bytes:
        """The tokenizer as the JSON of the `tokenizers` library."""
        return self._backend.to_str(pretty=True).encode()

    @property
    def vocab_size(self) -> int:
        """The number of ids, special tokens included."""
        return self._backend.get_vocab_size()

    def token(self, token_id: int) -> str:
        """The text of one id."""
        return self._backend.id_to_token(token_id) or SPECIAL_TOKENS[UNK_ID]

    def encode(self, texts: Sequence[str], *, max_length: int) -> list[Tokens]:
        """Encode texts one by one, without padding.

        Raises:
            TokenizerError: a text is not a str, or holds a lone surrogate, which is no character.
        """
        if isinstance(texts, str):
            raise TokenizerError("texts is one str, but must be a list of them: write [text]")
        limit = max_length * CHARACTERS_PER_TOKEN
        for index, text in enumerate(texts):
            check_text(text, f"text {index}")
        encoded: list[Tokens] = []
        for start in range(0, len(texts), TEXTS_PER_CHUNK):
            chunk = texts[start : start + TEXTS_PER_CHUNK]
            for text, ids in zip(chunk, self._ids([text[:limit] for text in chunk]), strict=True):
                input_ids = np.array(ids[:max_length] or [UNK_ID], dtype=np.int32)
                encoded.append(Tokens(input_ids, len(text) > limit or len(ids) > max_length))
        return encoded

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Of all tokens."""
        if self._words is None:
            return [encoding.ids for encoding in self._backend.encode_batch_fast(texts)]
        found, get = ASCII_TOKEN.findall, self._words.get
        others = iter(self._backend.encode_batch_fast([text for text in texts if not text.isascii()]))
        return [
            [get(word, UNK_ID) for word in found(text.lower())] if text.isascii() else next(others).ids
            for text in texts
        ]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """The first character of each token in the text, and the one after its last; none for a blank text."""
        return list(self._backend.encode(text).offsets)

    def encode_batch(self, texts: Sequence[str], *, max_length: int) -> NDArray[np.int64]:
        """Encode and pad: (B, T) int64, padded with PAD_ID."""
        return pad([tokens.input_ids for tokens in self.encode(texts, max_length=max_length)])


def check_text(text: object, name: str) -> None:
    """Raise a TokenizerError unless the text is a str that UTF-8 can write.

    Args:
        text: what somebody gave as a text.
        name: what to call it in the message.
    """
    if not isinstance(text, str):
        raise TokenizerError(f"{name} is a {type(text).__name__}, but must be a str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"{name} holds a lone surrogate, U+{ord(text[error.start]):04X}, at character {error.start + 1}: "
            "it is half of a pair and no character by itself; remove it"
        ) from None


def pad(sequences: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
    """Pad ids to one length.

    Args:
        sequences: B arrays of ids, each of at least one.

    Returns:
        (B, T) int64, padded with PAD_ID; T is padded_length of the longest.
    """
    batch = np.full((len(sequences), padded_length(max(map(len, sequences), default=1))), PAD_ID, dtype=np.int64)
    for row, ids in zip(batch, sequences, strict=True):
        row[: len(ids)] = ids
    return batch


def padded_length(length: int) -> int:
    """Round up to a multiple of 4, and above 64 to one of eight steps an octave.

    oneDNN keeps a compiled convolution for every shape that it meets, so the lengths are kept to few
    (pytorch#98688): 40 for texts of up to 512 tokens, and beyond 32 tokens at most an eighth of a row is padding.
    """
    step = max(4, 1 << max(0, (length - 1).bit_length() - 4))
    return -(-length // step) * step


def _takes_words(backend: tokenizers.Tokenizer) -> bool:
    """Whether all but its vocabulary is as _untrained gives it for words."""
    ours, _ = _untrained(KINDS[0], 2, 1)
    ours.add_special_tokens(SPECIAL_TOKENS)
    found = [json.loads(one.to_str()) for one in (backend, ours)]
    for one in found:
        del one["model"]["vocab"]
    return bool(found[0] == found[1])


def _untrained(kind: str, vocab_size: int, min_frequency: int) -> tuple[tokenizers.Tokenizer, trainers.Trainer]:
    if kind not in KINDS:
        raise ConfigError(f"tokenizer is {kind!r}, but must be one of {', '.join(KINDS)}")
    limits: dict[str, Any] = {
        "vocab_size": vocab_size,
        "min_frequency": min_frequency,
        "special_tokens": SPECIAL_TOKENS,
    }
    clean = [normalizers.NFKC(), normalizers.Lowercase()]
    if kind == "words":
        backend = tokenizers.Tokenizer(models.WordLevel(unk_token=SPECIAL_TOKENS[UNK_ID]))
        trainer: trainers.Trainer = trainers.WordLevelTrainer(show_progress=False, **limits)
        pattern = TOKEN_PATTERN
    else:
        # The start of a word is marked by hand: with the library's own marks its trainer's result changes from run
        # to run, since it numbers the marked letters in the order of a hash.
        backend = tokenizers.Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[UNK_ID], fuse_unk=True))
        trainer = trainers.BpeTrainer(show_progress=False, **limits)
        clean += [normalizers.Strip(), normalizers.Replace(Regex(r"\s+|^(?=\S)"), f" {WORD_START}")]
        pattern = "|".join(f"{WORD_START}?{part}" for part in TOKEN_PATTERN.split("|"))
    backend.normalizer = normalizers.Sequence(clean)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return backend, trainer
