"""Data sets of the hub, or of a local folder in its layout: hub:owner/name[:config][@split]; needs the `hub` extra.

`datasets` finds and fetches the files of the split; nlp_app.tables reads them, so that 01 and NA stay what they are.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nlp_app.arrow import class_names
from nlp_app.errors import DataError
from nlp_app.formats import BINARY, FORMATS
from nlp_app.packing import plain_suffix
from nlp_app.rows import Row
from training.source_files import TableFile, TemporaryFolder

HUB = "hub:"


class HubFile(TableFile):
    """A file of a data set; numbers of classes become the names that its card gives them."""

    def __init__(self, path: Path, name: str, classes: dict[str, list[str]], folder: TemporaryFolder) -> None:
        super().__init__(path, None, name)
        self._folder = folder  # gone with the last of its files
        self._classes = classes

    def rows(self, columns: Sequence[str], lists: Sequence[str]) -> Iterator[Row]:
        """The values of columns."""
        names = [None if self._tells(column) else self._classes.get(column) for column in columns]
        for line, values in super().rows(columns, lists):
            yield Row(line, tuple(map(_named, values, names)))

    def _tells(self, column: str) -> bool:
        """Whether the file itself has the names, so that its reader has put them in place."""
        if plain_suffix(self.path) != ".parquet":
            return plain_suffix(self.path) in BINARY
        import pyarrow.parquet as pq

        return class_names(pq.read_schema(self.path), column) is not None


def hub_sources(word: str, split: str) -> list[TableFile]:
    """The files of a split.

    Raises:
        DataError: there is no such data set, or no way to it; it says which.
    """
    name, at, asked = word.removeprefix(HUB).partition("@")
    name, _, config = name.partition(":")
    builder = _builder(word, name, config or None)
    files = {str(one): paths for one, paths in (builder.config.data_files or {}).items()}
    wanted = asked if at else split
    if wanted not in files:
        raise DataError(
            f"{word} has no split {wanted!r}: it has {', '.join(files)}; write {HUB}{name}@{next(iter(files), '…')}"
        )
    features = builder.info.features or {}
    classes = {column: list(one.names) for column, one in features.items() if type(one).__name__ == "ClassLabel"}
    folder = TemporaryFolder()
    pairs = zip(files[wanted], _fetched(word, files[wanted]), strict=True)
    paths = [_with_its_name(word, folder.path / str(number), *pair) for number, pair in enumerate(pairs)]
    return [HubFile(path, f"{word}/{path.name}", classes, folder) for path in paths]


def _builder(word: str, name: str, config: str | None) -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError(f"{word}: the hub needs datasets: pip install 'nlp_app[hub]'") from None
    for library in ("datasets", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)  # what they warn of at each retry is said once, below
    try:
        return datasets.load_dataset_builder(name, config)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise DataError(f"{word}: there is no such data set, or it is not open to you ({_first(error)})") from None
    except (ConnectionError, TimeoutError) as error:
        raise DataError(
            f"{word}: there is no way to the hub ({_first(error)}): fetch it where there is one, and name its folder"
        ) from None
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{word} cannot be used: {_first(error)}") from None


def _fetched(word: str, remote: Sequence[str]) -> list[str]:
    """Where the files are on this machine."""
    import datasets

    try:
        return list(datasets.DownloadManager().download(list(remote)))
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{word}: its files cannot be fetched ({_first(error)})") from None


def _with_its_name(word: str, folder: Path, remote: str, local: str) -> Path:
    """A link in a new folder to a fetched file, whose own name tells no format."""
    path = folder / Path(remote).name
    if plain_suffix(path) not in FORMATS:
        raise DataError(f"{word}: {Path(remote).name} is of no format with columns: {', '.join(FORMATS)}")
    folder.mkdir()
    path.symlink_to(Path(local).resolve())
    return path


def _named(value: Any, names: list[str] | None) -> Any:
    number = int(value) if names and isinstance(value, str) and value.isdigit() else -1
    return names[number] if names and 0 <= number < len(names) else value


def _first(error: object) -> str:
    return str(error).strip().partition("\n")[0]
