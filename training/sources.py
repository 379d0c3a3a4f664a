"""Where labelled texts come from: files, patterns, folders, standard input, the hub, databases."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from nlp_app.errors import ConfigError, DataError
from nlp_app.formats import FORMATS
from nlp_app.packing import plain_suffix
from training.database import Query, hide_password
from training.hub import HUB, hub_sources
from training.source_files import (
    LabelFolders,
    LabelledLines,
    Source,
    StandardInput,
    TableFile,
    entries,
    has_label_lines,
)

Given = str | Path | tuple[str | Path, ...]
"""What a flag for labelled texts takes: one or several."""
PIPE = "-"
"""The word for standard input."""
NOT_TABLES = {"dataset_info.json", "state.json", "dataset_infos.json"}
"""That `datasets` writes beside its tables."""
REMOTE = {"http", "https", "ftp", "s3", "gs", "file"}
"""Whose addresses are no databases."""
ADDRESS = re.compile(r"[a-z][a-z0-9+]*://")


def find_sources(
    given: Given, *, encoding: str | None = None, query: str | None = None, split: str = "train"
) -> list[Source]:
    """Every table that the words of a flag name, in their order; of a pattern and of a folder by name.

    Args:
        given: a Path, or words: a file, a pattern, a folder of tables or of label/*.txt, - for standard input,
            hub:owner/name, an address of a database.
        encoding: of files of text.
        query: of databases.
        split: of the hub, where a word names none.

    Raises:
        DataError: a word names nothing.
        ConfigError: a database without a query, or the other way round.
    """
    check_words(given, query, split)
    return [source for word in words_of(given) for source in _of_word(word, encoding, query or "", split)]


def check_words(given: Given, query: str | None, split: str) -> None:
    """Raise a ConfigError for an address that is none of a database, for one without a query, or a query without one.

    Args:
        given: as of find_sources.
        query: of databases.
        split: train, or the part that has flags of its own.
    """
    words = words_of(given)
    if remote := next((word for word in words if is_address(word) and str(word).partition("://")[0] in REMOTE), None):
        raise ConfigError(f"{hide_password(remote)} is not fetched: download it, and name the file")
    databases = [word for word in words if is_address(word)]
    flag = "--query" if split == "train" else f"--{split}-query"
    if databases and not query:
        raise ConfigError(f"{hide_password(databases[0])} is a database: say with {flag} what to read of it")
    if query and not databases:
        raise ConfigError(f"{flag} is of a database, and none is given: give its address, or leave {flag} out")


def words_of(given: Given | None) -> tuple[str | Path, ...]:
    """Each by itself."""
    return given if isinstance(given, tuple) else () if given is None else (given,)


def name_of(sources: Sequence[Source]) -> str:
    """What all of them together are called."""
    return sources[0].name if len(sources) == 1 else f"{sources[0].name} and {len(sources) - 1} more"


def is_address(word: str | Path) -> bool:
    """Whether it is one of a database."""
    return isinstance(word, str) and ADDRESS.match(word) is not None


def names_of(given: Given | None) -> str | None:
    """What a flag was given, for people and for config.json: names without their folders, no password."""
    if given is None:
        return None
    return " ".join(
        hide_password(word) if is_address(word) else str(word) if str(word).startswith(HUB) else Path(word).name
        for word in words_of(given)
    )


def files_of(given: Given | None) -> list[Path]:
    """The files among them that are named as such; what is none of a pattern, a folder, an address."""
    return [
        Path(word)
        for word in words_of(given)
        if isinstance(word, Path) or not (is_address(word) or word == PIPE or word.startswith(HUB) or _is_pattern(word))
    ]


def _of_word(word: str | Path, encoding: str | None, query: str, split: str) -> Sequence[Source]:
    if isinstance(word, Path):
        return _of_path(word, encoding)
    if word == PIPE:
        return [StandardInput(encoding)]
    if word.startswith(HUB):
        if not word.removeprefix(HUB):
            raise DataError(f"{word} names no data set: write {HUB}owner/name")
        return hub_sources(word, split)
    if is_address(word):
        return [Query(word, query)]
    if _is_pattern(word) and not Path(word).exists():
        return _of_pattern(word, encoding)
    return _of_path(Path(word), encoding)


def _is_pattern(word: str) -> bool:
    return glob.has_magic(word)


def _of_pattern(pattern: str, encoding: str | None) -> list[Source]:
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns of whole paths
    files = [path for one in found if (path := Path(one)).is_file()]
    if not files:
        raise DataError(f"{pattern} matches no file: correct the pattern")
    return [_of_file(path, encoding) for path in files]


def _of_path(path: Path, encoding: str | None) -> list[Source]:
    return _of_folder(path, encoding) if path.is_dir() else [_of_file(path, encoding)]


def _of_file(path: Path, encoding: str | None) -> Source:
    if plain_suffix(path) not in FORMATS and has_label_lines(path, encoding):
        return LabelledLines(path, encoding)
    return TableFile(path, encoding)


def _of_folder(folder: Path, encoding: str | None) -> list[Source]:
    """The tables of a folder, of one kind; or its folders, each the label of the .txt files in it."""
    inside = entries(folder)
    tables = [one for one in inside if one.is_file() and plain_suffix(one) in FORMATS and one.name not in NOT_TABLES]
    texts = LabelFolders(folder, encoding)
    kinds = sorted({plain_suffix(one) for one in tables}) + (["LABEL/*.txt"] if texts.files() else [])
    if len(kinds) != 1:
        what = f"mixes {', '.join(kinds)}" if kinds else f"holds neither tables ({', '.join(FORMATS)}) nor LABEL/*.txt"
        raise DataError(f"the folder {folder} {what}: name the files that are meant")
    return [TableFile(one, encoding) for one in tables] if tables else [texts]
