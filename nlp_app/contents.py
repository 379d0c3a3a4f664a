"""What a checkpoint folder says beside its weights: read without torch, for any runtime."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_app import parts
from nlp_app.config import ModelConfig
from nlp_app.decision import Decision
from nlp_app.errors import CheckpointError
from nlp_app.folder import MANIFEST, repair
from nlp_app.golden import check_golden
from nlp_app.probabilities import Ask
from nlp_app.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Read and checked."""

    config: ModelConfig
    tokenizer: Tokenizer
    decision: Decision
    version: str
    """The first 12 hex digits of the manifest's SHA-256: two models of one version are the same bytes."""
    trained: Mapping[str, Any]
    """What it was trained on and with, as config.json tells."""
    metrics: Mapping[str, Any]


def read_contents(folder: Path) -> tuple[Contents, dict[str, bytes]]:
    """The contents, and the bytes of every part that the manifest names.

    Every file is read once; what was checked is what is used, whatever happens to the folder afterwards.

    Raises:
        CheckpointError: a file is missing or changed, or the parts do not fit each other.
    """
    manifest, files, metrics = _read(folder)
    config, decision, trained = parts.read_config(folder, files[parts.CONFIG])
    tokenizer = parts.read_tokenizer(folder, files[parts.TOKENIZER])
    if tokenizer.vocab_size != config.vocab_size:
        sizes = f"{tokenizer.vocab_size} tokens, but {parts.CONFIG} says {config.vocab_size}"
        raise CheckpointError(f"{folder / parts.TOKENIZER} has {sizes}: {parts.REMEDY}")
    version = parts.sha256(manifest)[:12]
    contents = Contents(
        config=config, tokenizer=tokenizer, decision=decision, version=version, trained=trained, metrics=metrics
    )
    return contents, files


def check_answers(folder: Path, contents: Contents, golden: bytes, ask: Ask) -> None:
    """Raise a CheckpointError unless the golden inputs are answered as they were when the model was saved."""
    examples = parts.parse(folder / parts.GOLDEN, golden)
    try:
        check_golden(ask, examples, tokenizer=contents.tokenizer, config=contents.config)
    except Exception as error:  # whatever a tokenizer that does not fit makes of them
        raise CheckpointError(f"{folder} does not answer its golden inputs: {error}; {parts.REMEDY}") from None


def _read(folder: Path) -> tuple[bytes, dict[str, bytes], dict[str, Any]]:
    """Manifest, parts and metrics of one model; where another is swapped in meanwhile, that one's."""
    while True:
        before = _stamp(folder)
        repair(folder)
        try:
            manifest = parts.read(folder, MANIFEST)
            contents = parts.read_checked(folder, parts.parse(folder / MANIFEST, manifest))
            return manifest, contents, parts.read_metrics(folder, parts.sha256(manifest)[:12])
        except CheckpointError:
            if _stamp(folder) == before:
                raise


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Differs after a swap."""
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
