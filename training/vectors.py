"""Vectors of words that others learnt from much text: the rows that the embedding starts with.

Three sources: a text file or a name of torchtext's, both read by torchtext; a static embedding model, by model2vec.
"""

import contextlib
import hashlib
import io
import shutil
import ssl
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nlp_app.errors import ConfigError, DataError
from nlp_app.model import EMBEDDING_STD
from nlp_app.tokenizer import SPECIAL_TOKENS, WORD_START, Tokenizer
from training.vector_file import read_vector_file

Look = Callable[[Sequence[str]], Tensor]
"""N words to their vectors, (N, E); zero where there is none."""
SPELLINGS: tuple[Callable[[str], str], ...] = (str, str.lower, str.capitalize)
"""Of a word, in the order in which they are looked for: tokens are lower-cased, a file's words need not be."""
SUFFIXES = (".txt", ".vec", ".gz")
"""Of text files; OWNER/NAME without one of them is on the hub."""
CACHE = Path("~/.cache/nlp_app/vectors")
FEW = 0.1
"""Vectors of a smaller share of the vocabulary are of another language or another kind of text."""
ELSEWHERE = "download it on a machine that can, and give the path of it"


@dataclass(frozen=True, kw_only=True)
class WordVectors:
    """The vectors of a vocabulary."""

    rows: Tensor
    """(V, E) float32, scaled; zero where a token has none."""
    has: Tensor
    """(V,) bool."""
    digest: str
    """SHA-256 of what was read."""

    @property
    def dim(self) -> int:
        """E."""
        return self.rows.shape[1]

    @property
    def share(self) -> float:
        """Of the vocabulary, without its special tokens, that has a vector."""
        return self.has.sum().item() / max(1, len(self.has) - len(SPECIAL_TOKENS))


def read_vectors(source: str, tokenizer: Tokenizer) -> WordVectors:
    """The vectors of a tokenizer's tokens.

    Args:
        source: a text file, a name that torchtext knows, or the folder or the hub name of a static embedding model.
        tokenizer: says which words.

    Raises:
        DataError: the source cannot be used.
        ConfigError: reading it needs a package that is not installed.
    """
    words = [tokenizer.token(row).removeprefix(WORD_START) for row in range(len(SPECIAL_TOKENS), tokenizer.vocab_size)]
    path = Path(source)
    if path.is_dir() or (source.count("/") == 1 and not path.exists() and path.suffix not in SUFFIXES):
        return _looked_up(words, _static(source), source)
    if path.is_file():
        return _of_file(words, path)
    return _looked_up(words, _named(source), source)


def _of_file(words: Sequence[str], path: Path) -> WordVectors:
    import torchtext.vocab

    file = read_vector_file(path, {spelling(word) for word in words for spelling in SPELLINGS})
    with tempfile.TemporaryDirectory() as folder, _as_it_was():
        copy = Path(folder) / "vectors.txt"
        none = [f"-{' 0' * file.dim}"]  # torchtext reads no empty file
        copy.write_text("\n".join([*file.lines.values()] or none) + "\n", encoding="utf-8", newline="\n")
        with contextlib.redirect_stderr(io.StringIO()):  # where its progress bar goes
            vectors = torchtext.vocab.Vectors(name=str(copy), cache=folder)
    return _looked_up(words, vectors.get_vecs_by_tokens, str(path), file.digest)


def _named(name: str) -> Look:
    """A set of vectors that torchtext knows, downloaded the first time."""
    from torchtext.vocab import pretrained_aliases

    if name not in pretrained_aliases:
        known = ", ".join(sorted(pretrained_aliases))
        raise DataError(
            f"--vectors {name}: there is no such file or folder, and the names that can be given are {known}"
        )
    cache = CACHE.expanduser() / name
    try:
        with _as_it_was():
            vectors = pretrained_aliases[name](cache=str(cache))
    except Exception as error:  # of the network, of an archive cut short, of the disk
        shutil.rmtree(cache, ignore_errors=True)  # half a file would be taken for a whole one the next time
        reason = str(error).partition("\n")[0]
        raise DataError(f"--vectors {name} cannot be downloaded into {cache} ({reason}): {ELSEWHERE}") from None
    look: Look = vectors.get_vecs_by_tokens
    return look


def _static(source: str) -> Look:
    """A static embedding model of model2vec or sentence-transformers: a word's vector is the mean of its parts'."""
    try:
        from model2vec import StaticModel
    except ImportError:
        needs = "is a static embedding model, which needs model2vec: pip install 'nlp_app[vectors]'"
        raise ConfigError(f"--vectors {source} {needs}") from None
    try:
        model = StaticModel.from_pretrained(source, force_download=False)
    except Exception as error:  # of the files, of the hub's client, of the network
        reason = str(error).partition("\n")[0]
        kind = "a folder of a static embedding model" if Path(source).is_dir() else "found on the hub"
        raise DataError(f"--vectors {source} is not {kind} ({reason}): {ELSEWHERE}") from None

    def look(words: Sequence[str]) -> Tensor:
        return torch.from_numpy(model.encode(words, normalize=False, use_multiprocessing=False)).float()

    return look


def _looked_up(words: Sequence[str], look: Look, source: str, digest: str | None = None) -> WordVectors:
    """Each word by the first of its spellings that has a vector."""
    vectors = look([*words, ""]).reshape(len(words) + 1, -1)[:-1].clone()
    for spelling in SPELLINGS[1:]:
        missing = (~vectors.any(dim=1)).nonzero().flatten().tolist()
        if missing:
            vectors[missing] = look([spelling(words[row]) for row in missing]).reshape(len(missing), -1)
    if not vectors.isfinite().all():
        raise DataError(f"--vectors {source} holds a vector that is not finite: give another")
    rows = torch.cat([vectors.new_zeros(len(SPECIAL_TOKENS), vectors.shape[1]), scaled(vectors)])
    digest = digest or hashlib.sha256(vectors.numpy().tobytes()).hexdigest()
    return WordVectors(rows=rows, has=rows.any(dim=1), digest=digest)


def scaled(vectors: Tensor) -> Tensor:
    """As large as the usual start: (N, E), of which the root mean square of a component is EMBEDDING_STD."""
    some = vectors[vectors.any(dim=1)]
    return vectors * (EMBEDDING_STD / some.square().mean().sqrt()) if len(some) else vectors


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Undo what torchtext does to the process: it turns off the check of certificates for all that comes after.

    For its own download the check stays on by way of an opener that was made before.
    """
    before = ssl._create_default_https_context
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=ssl.create_default_context()))
    urllib.request.install_opener(opener)
    try:
        yield
    finally:
        ssl._create_default_https_context = before
