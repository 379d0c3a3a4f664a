"""Versions of a model for benchmarks.chaos: another one, and one put in place of the other."""

import shutil
from dataclasses import replace
from pathlib import Path

from nlp_app.checkpoint import load_checkpoint, save_checkpoint
from nlp_app.folder import CHECKPOINT_FILES, locked, publish, work_folder
from nlp_app.model import TextClassifier


def put(version: Path, folder: Path, *, spoil: str | None = None) -> None:
    """Publish a copy of a checkpoint as a training run does; spoil turns the last byte of a file round."""
    work = work_folder(folder)
    work.mkdir(parents=True, exist_ok=True)
    with locked(work):
        for name in CHECKPOINT_FILES:
            shutil.copyfile(version / name, work / name)
        if spoil is not None:
            data = (work / spoil).read_bytes()
            (work / spoil).write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        publish(folder)


def other_version(checkpoint: Path, folder: Path) -> str:
    """Write a model whose labels are turned round by one; gives its version."""
    loaded = load_checkpoint(checkpoint)
    labels = loaded.config.labels
    module = TextClassifier(config=replace(loaded.config, labels=(*labels[1:], labels[0])))
    module.load_state_dict(loaded.module.state_dict())
    folder.mkdir()
    return save_checkpoint(
        folder,
        module=module.eval(),
        tokenizer=loaded.tokenizer,
        trained=loaded.trained,
        metrics=loaded.metrics,
        decision=loaded.decision,
    )
