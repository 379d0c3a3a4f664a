"""A checkpoint: parameters only, in a folder of six files, none of them a pickle (docs/checkpoint-format.md).

"Parameters only" is the whole state_dict: weights and BatchNorm's buffers, without which a loaded model would
normalise with mean 0 and variance 1. The file fills a module that is built from the config; it never builds one.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.errors import CheckpointError, ConfigError, TokenizerError
from nlp_app.folder import MANIFEST, previous_folder, repair, work_folder, write_file
from nlp_app.golden import check_golden, make_golden
from nlp_app.model import TextClassifier
from nlp_app.tokenizer import Tokenizer

FORMAT_VERSION = 1
MODEL, CONFIG, TOKENIZER, GOLDEN, METRICS = (
    "model.safetensors", "config.json", "tokenizer.json", "golden.json", "metrics.json",
)  # fmt: skip
DIGESTED = (MODEL, CONFIG, TOKENIZER, GOLDEN)
REMEDY = "copy the whole folder again from where it was made, or train again"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint folder holds, loaded and checked."""

    module: TextClassifier
    """In eval mode, on the device that was asked for."""
    tokenizer: Tokenizer
    version: str
    """The first 12 hex digits of the manifest's SHA-256: two models of one version are the same bytes."""
    trained: Mapping[str, Any]
    """What it was trained on and with, as config.json tells."""
    metrics: Mapping[str, Any]

    @property
    def config(self) -> ModelConfig:
        """The module's config."""
        return self.module.config


def save_checkpoint(
    folder: Path,
    *,
    module: TextClassifier,
    tokenizer: Tokenizer,
    trained: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> str:
    """Write the six files, the manifest last; the caller publishes the folder.

    Args:
        folder: an existing folder, the work folder of an output.
        module: in eval mode, on the CPU.
        tokenizer: the one that the module was trained with.
        trained: what to tell of the training in config.json; no clock time, so that equal runs give equal versions.
        metrics: what to write into metrics.json; `model.bytes` and `model.version` are added.

    Returns:
        The model's version.

    Raises:
        OutputError: the folder cannot be written.
    """
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    contents = {
        MODEL: safetensors.torch.save(state),
        CONFIG: _json({"model": module.config.to_json(), "trained": trained}),
        TOKENIZER: tokenizer.to_bytes(),
        GOLDEN: _json(make_golden(module, tokenizer)),
    }
    manifest = _json(
        {"format_version": FORMAT_VERSION, "sha256": {name: _sha256(data) for name, data in contents.items()}}
    )
    version = _sha256(manifest)[:12]
    model = {**metrics.get("model", {}), "bytes": len(contents[MODEL]), "version": version}
    contents[METRICS] = _json({**metrics, "model": model})
    for name, data in {**contents, MANIFEST: manifest}.items():
        write_file(folder / name, data)
    return version


def load_checkpoint(folder: Path, *, device: torch.device | None = None) -> Checkpoint:
    """Load a checkpoint, strictly: what is not exactly what was saved is refused.

    Every file is read once; what was checked is what is used, whatever happens to the folder afterwards.

    Args:
        folder: the checkpoint.
        device: where the module goes; the CPU where none is given.

    Raises:
        CheckpointError: a file is missing or changed, or the parts do not fit each other.
    """
    repair(folder)
    manifest = _read(folder, MANIFEST)
    contents = _read_checked(folder, _parse(folder / MANIFEST, manifest))
    version = _sha256(manifest)[:12]
    config, trained = _config(folder, contents[CONFIG])
    tokenizer = _tokenizer(folder, contents[TOKENIZER])
    if tokenizer.vocab_size != config.vocab_size:
        raise CheckpointError(
            f"{folder / TOKENIZER} has {tokenizer.vocab_size} tokens, but {CONFIG} says {config.vocab_size}: {REMEDY}"
        )
    module = TextClassifier(config=config)
    module.load_state_dict(_matching_state(folder / MODEL, contents[MODEL], module.state_dict()), strict=True)
    module.eval()
    try:
        check_golden(module, tokenizer, _parse(folder / GOLDEN, contents[GOLDEN]))
    except CheckpointError as error:
        raise CheckpointError(f"{folder} does not answer its golden inputs: {error}; {REMEDY}") from None
    metrics = _metrics(folder, version)
    return Checkpoint(
        module=module.to(device or torch.device("cpu")),
        tokenizer=tokenizer,
        version=version,
        trained=trained,
        metrics=metrics,
    )


def _read(folder: Path, name: str) -> bytes:
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


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}): it was edited or cut short; {REMEDY}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}, but must hold an object; {REMEDY}")
    return values


def _read_checked(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
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
    contents = {name: _read(folder, name) for name in DIGESTED}
    for name, data in contents.items():
        if _sha256(data) != digests[name]:
            raise CheckpointError(
                f"{folder / name} is not the file that {MANIFEST} names: it was edited, cut short or swapped; {REMEDY}"
            )
    return contents


def _config(folder: Path, data: bytes) -> tuple[ModelConfig, Mapping[str, Any]]:
    values = _parse(folder / CONFIG, data)
    if not isinstance(values.get("model"), dict) or not isinstance(values.get("trained"), dict):
        raise CheckpointError(f"{folder / CONFIG} must hold the objects 'model' and 'trained'; {REMEDY}")
    try:
        return ModelConfig.from_json(values["model"]), values["trained"]
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG} is no model's config: {error}; {REMEDY}") from None


def _tokenizer(folder: Path, data: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_bytes(data)
    except TokenizerError as error:
        raise CheckpointError(f"{folder / TOKENIZER} cannot be used: {error}; {REMEDY}") from None


def _matching_state(path: Path, data: bytes, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors, after each was compared with the module's in name, shape and dtype."""
    try:
        state = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error}); {REMEDY}") from None
    if state.keys() != expected.keys():
        names = ", ".join(sorted(state.keys() ^ expected.keys()))
        raise CheckpointError(f"{path} and {CONFIG} do not agree on which tensors there are: {names}; {REMEDY}")
    for name, tensor in sorted(state.items()):
        if (tensor.shape, tensor.dtype) != (expected[name].shape, expected[name].dtype):
            raise CheckpointError(
                f"{path} has {name} as {_describe(tensor)}, but {CONFIG} makes it {_describe(expected[name])}; {REMEDY}"
            )
    return state


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _metrics(folder: Path, version: str) -> dict[str, Any]:
    """metrics.json has no digest, since it tells clock times; it names the version that it belongs to instead."""
    metrics = _parse(folder / METRICS, _read(folder, METRICS))
    model = metrics.get("model")
    found = model.get("version") if isinstance(model, dict) else None
    if found != version:
        raise CheckpointError(
            f"{folder / METRICS} is of model version {found}, but this model is {version}: "
            f"it was swapped or edited; {REMEDY}"
        )
    return metrics


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
