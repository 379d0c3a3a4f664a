"""The models of a process: by name and version, each replaced as a whole while it is asked."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from nlp_app.errors import NlpAppError
from nlp_app.folder import MANIFEST
from serving.inference import Inference
from serving.measures import Measures, OfModel
from serving.need import check_reload
from serving.settings import Served, Settings

logger = logging.getLogger(__name__)


class Slot:
    """A folder that is served, and what answers for it now."""

    def __init__(self, *, served: Served, settings: Settings, measures: OfModel) -> None:
        self.served = served
        self._settings = settings
        self._measures = measures
        self.current = self._new(served.folder)
        self._seen = b""
        """The manifest of what answers."""
        self._failed: object = None
        """The files that could not be loaded, by what tells them from others."""
        self._reloading = asyncio.Lock()
        self._draining: set[asyncio.Task[None]] = set()
        self.abandoned = False
        """Whether a thread was left behind that hangs: Python would wait for it at the end."""

    @property
    def version(self) -> str:
        """What the flag calls it, else the digest of the checkpoint; empty before there is one."""
        return self.served.version or self.current.version

    async def load(self) -> None:
        """Load it for the first time: what other processes answer with already, where there is a copy of that."""
        if self.served.copy is not None:
            copied = self._new(self.served.copy)
            await copied.load()
            if copied.failure is None:
                self._seen, self.current = _manifest(self.served.copy), copied
                return
            await copied.close()
        self._seen = _manifest(self.served.folder)
        await self.current.load()

    async def reload(self, *, again: bool = True) -> NlpAppError | None:
        """Load what the folder holds now aside, and put it in place once it has answered its golden inputs.

        Requests that were accepted are answered by the model that took them. Where the new one cannot be loaded the
        old one goes on, and the reason comes back.

        Args:
            again: whether files that could not be loaded before are tried once more, though they are the same.
        """
        async with self._reloading:
            seen, files = _manifest(self.served.folder), _files(self.served.folder)
            if (seen and seen == self._seen) or (files == self._failed and not again):
                return None
            try:
                check_reload(self.served.folder, self._settings.runtime)
            except NlpAppError as error:
                return self._refuse(error, files)
            new = self._new(self.served.folder)
            await new.load()
            if new.failure is not None:
                await new.close()
                return self._refuse(new.failure, files)
            self._seen = seen
            old, self.current = self.current, new
            self._measures.reloads["done"] += 1
            logger.info("%s answers with version %s", self.served.name, new.predictor.checkpoint.version)
            draining = asyncio.create_task(self._close(old))
            self._draining.add(draining)
            draining.add_done_callback(self._draining.discard)
            return None

    def _refuse(self, failure: NlpAppError, files: object) -> NlpAppError:
        """Go on with the old one."""
        self._failed = files
        self._measures.reloads["failed"] += 1
        logger.error("%s goes on with its old checkpoint: %s", self.served.name, failure)
        return failure

    def _new(self, folder: Path) -> Inference:
        return Inference(served=self.served._replace(folder=folder), settings=self._settings, measures=self._measures)

    async def close(self) -> None:
        """Finish what was accepted."""
        await asyncio.gather(self._close(self.current), *self._draining)

    async def _close(self, inference: Inference) -> None:
        await inference.close()
        self.abandoned = self.abandoned or inference.abandoned


class Models:
    """Every slot; the first is the default."""

    def __init__(self, *, settings: Settings, measures: Measures) -> None:
        self._settings = settings
        self._slots = [
            Slot(served=served, settings=settings, measures=measures.models[served.called])
            for served in settings.checkpoint
        ]

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    @property
    def default(self) -> Slot:
        """What answers where no model is named."""
        return self._slots[0]

    def find(self, name: str, version: str | None = None) -> Slot | None:
        """The slot of a name: of a version, or the first that was given."""
        named = [slot for slot in self._slots if slot.served.name == name]
        if version is None:
            return next(iter(named), None)
        for slot in named:
            if version == slot.version:
                return slot
        return None

    def names(self) -> Sequence[str]:
        """Each once."""
        return list(dict.fromkeys(slot.served.name for slot in self._slots))

    async def load(self) -> NlpAppError | None:
        """Load all; the first failure."""
        for slot in self._slots:
            await slot.load()
        return next((slot.current.failure for slot in self._slots if slot.current.failure), None)

    async def reload(self, *, again: bool = True) -> list[NlpAppError]:
        """Load what the folders hold now; why some could not be."""
        found = [await slot.reload(again=again) for slot in self._slots]
        return [failure for failure in found if failure is not None]

    async def watch(self) -> None:
        """Ask the threads that nobody else asks, until it is cancelled."""
        await asyncio.gather(*(self._watch(slot) for slot in self._slots))

    async def watch_folders(self) -> None:
        """Load new checkpoints as they appear, until it is cancelled."""
        while self._settings.watch_s:
            await asyncio.sleep(self._settings.watch_s)
            await self.reload(again=False)

    async def close(self) -> None:
        """Finish what was accepted."""
        await asyncio.gather(*(slot.close() for slot in self._slots))

    async def _watch(self, slot: Slot) -> None:
        while True:
            await slot.current.probe()


def _manifest(folder: Path) -> bytes:
    """What tells a checkpoint from another; nothing where there is none."""
    with suppress(OSError):
        return (folder / MANIFEST).read_bytes()
    return b""


def _files(folder: Path) -> object:
    """What tells the files of a folder from those that are put in their place."""
    with suppress(OSError):
        stats = {path.name: path.stat() for path in folder.iterdir()}
        return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}
    return None
