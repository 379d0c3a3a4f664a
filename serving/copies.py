"""Copies of the checkpoints that workers serve, while the server runs.

A worker that is started later loads them, so that it answers as the others do, whatever the folders hold by then.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nlp_app.folder import CHECKPOINT_FILES, MANIFEST, ONNX_FILE
from serving.settings import Served

logger = logging.getLogger(__name__)


class Copies:
    """Of each checkpoint the version that was served last."""

    def __init__(self, checkpoints: Sequence[Served]) -> None:
        self._checkpoints = list(checkpoints)
        self._tried: list[str] = [""] * len(self._checkpoints)
        """The versions that were copied, or could not be."""
        self._made: list[Path] = []

    def checkpoints(self) -> list[Served]:
        """With their copies, as far as there are any."""
        return list(self._checkpoints)

    def keep(self, versions: Sequence[str]) -> None:
        """Copy what a worker serves, where there is no copy and the folder still holds it."""
        for number, version in enumerate(versions):
            folder = self._checkpoints[number].folder
            if version and version != self._tried[number] and _version(folder) == version:
                self._tried[number] = version
                self._keep(number, version)

    def _keep(self, number: int, version: str) -> None:
        served = self._checkpoints[number]
        try:
            copy = self._copy(served.folder, version)
        except (OSError, ValueError) as error:
            told = "no copy of %s is kept (%s): a worker that is started again loads what the folder holds by then"
            logger.warning(told, served.folder, getattr(error, "strerror", None) or error)
            return
        self._checkpoints[number] = served._replace(copy=copy)
        if served.copy is not None:
            shutil.rmtree(served.copy, ignore_errors=True)

    def _copy(self, folder: Path, version: str) -> Path:
        copy = Path(tempfile.mkdtemp(prefix="nlp_app-"))
        self._made.append(copy)
        try:
            for name in (*CHECKPOINT_FILES, ONNX_FILE):
                if name != ONNX_FILE or (folder / name).exists():
                    shutil.copyfile(folder / name, copy / name)
            if not is_whole(copy, version):
                raise ValueError("it changed meanwhile")
        except (OSError, ValueError):
            shutil.rmtree(copy, ignore_errors=True)  # on a full disk at once
            raise
        return copy

    def close(self) -> None:
        """Remove them."""
        for copy in self._made:
            shutil.rmtree(copy, ignore_errors=True)


def is_whole(folder: Path, version: str) -> bool:
    """Whether it holds that version, and every file is the one that its manifest names."""
    if _version(folder) != version:
        return False
    digests = json.loads((folder / MANIFEST).read_bytes())["sha256"]
    return all(_digest(folder / name) == digest for name, digest in digests.items())


def _version(folder: Path) -> str:
    """As of nlp_app.contents: of the manifest; empty where there is none."""
    try:
        return _digest(folder / MANIFEST)[:12]
    except OSError:
        return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
