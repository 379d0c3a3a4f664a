"""The parts of a checkpoint folder: their names, and how each is read, checked, and refused in one sentence."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nlp_app.config import ModelConfig
from nlp_app.decision import Decision
from nlp_app.errors import CheckpointError, ConfigError, TokenizerError
from nlp_app.folder import CHECKPOINT_FILES, MANIFEST, previous_folder, work_folder
from nlp_app.tokenizer import Tokenizer

FORMAT_VERSION = 2
MODEL, CONFIG, TOKENIZER, GOLDEN, METRICS, _ = CHECKPOINT_FILES
DIGESTED = (MODEL, CONFIG, TOKENIZER, GOLDEN)
REMEDY = "copy the whole folder again from where it was made, or train again"


def read(folder: Path, name: str) -> bytes:
    """The bytes of a part, read once."""
    path = folder / name
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(_missing(folder, name)) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def _missing(folder: Path, name: str) -> str:
    if folder.is_dir():
        return f"{folder} has no {name}, which every checkpoint has: {REMEDY}"
    left = [str(other) for other in (work_folder(folder), previous_folder(folder)) if other.exists()]
    hint = f"; {' and '.join(left)} stand beside it, of a run that did not end" if left else ""
    return f"there is no checkpoint folder {folder}{hint}: train one with `python -m training.run --output {folder}`"


def parse(path: Path, data: bytes) -> dict[str, Any]:
    """A part as a JSON object."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}): it was edited or cut short; {REMEDY}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}, but must hold an object; {REMEDY}")
    return values


def read_checked(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of every part that the manifest names, after their digests were compared."""
    written = manifest.get("format_version")
    if not isinstance(written, int) or isinstance(written, bool) or written < 1:
        raise CheckpointError(f"{folder / MANIFEST} has format_version {written!r}, but needs a whole number; {REMEDY}")
    if written > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format version {written}, but this program reads up to {FORMAT_VERSION}: update the program"
        )
    digests = manifest.get("sha256")
    if not isinstance(digests, dict) or sorted(digests) != sorted(DIGESTED):
        raise CheckpointError(
            f"{folder / MANIFEST} must give the SHA-256 of {', '.join(DIGESTED)}, no less and no more; {REMEDY}"
        )
    contents = {name: read(folder, name) for name in DIGESTED}
    for name, data in contents.items():
        if sha256(data) != digests[name]:
            raise CheckpointError(
                f"{folder / name} is not the file that {MANIFEST} names: it was edited, cut short or swapped; {REMEDY}"
            )
    return contents


def read_config(folder: Path, data: bytes) -> tuple[ModelConfig, Decision, Mapping[str, Any]]:
    """The module's config, its decision, and what the training told."""
    values = {"decision": {}, **parse(folder / CONFIG, data)}  # version 0.1 had none
    if not all(isinstance(values.get(name), dict) for name in ("model", "decision", "trained")):
        raise CheckpointError(f"{folder / CONFIG} must hold the objects 'model', 'decision' and 'trained'; {REMEDY}")
    try:
        config = ModelConfig.from_json(values["model"])
        return config, Decision.from_json(values["decision"], classes=config.num_classes), values["trained"]
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG} is no model's config: {error}; {REMEDY}") from None


def read_tokenizer(folder: Path, data: bytes) -> Tokenizer:
    """The tokenizer that to_bytes wrote."""
    try:
        return Tokenizer.from_bytes(data)
    except TokenizerError as error:
        raise CheckpointError(f"{folder / TOKENIZER} cannot be used: {error}; {REMEDY}") from None


def read_metrics(folder: Path, version: str) -> dict[str, Any]:
    """metrics.json has no digest, since it tells clock times; it names the version that it belongs to instead."""
    metrics = parse(folder / METRICS, read(folder, METRICS))
    try:
        to_json(metrics)
    except ValueError as error:  # NaN, or a lone surrogate
        raise CheckpointError(f"{folder / METRICS} was edited ({error}); {REMEDY}") from None
    model = metrics.get("model")
    found = model.get("version") if isinstance(model, dict) else None
    if found != version:
        raise CheckpointError(
            f"{folder / METRICS} is of model version {found}, but this model is {version}: "
            f"it was swapped or edited; {REMEDY}"
        )
    return metrics


def sha256(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def to_json(values: Mapping[str, Any]) -> bytes:
    """As the bytes of a JSON file."""
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
