"""A checkpoint whose logits ONNX Runtime computes, without torch: the folder's own files, and model.onnx beside them.

`python -m training.export DIR --onnx` writes model.onnx. It says which version of the model it was made of, so that it
never answers for another; and it answers the golden inputs at every load, as the module does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlp_app import parts
from nlp_app.contents import Contents, check_answers, read_contents
from nlp_app.encoding import Encoded, batches
from nlp_app.errors import CheckpointError, ConfigError
from nlp_app.explanation import Explanation
from nlp_app.folder import ONNX_FILE
from nlp_app.probabilities import Ask, Floats
from nlp_app.tokenizer import pad

try:
    import onnxruntime
except ModuleNotFoundError:
    raise ConfigError(
        "the runtime onnx needs the package onnxruntime, which is not there: pip install 'nlp_app[onnx]'"
    ) from None

VERSION = "nlp_app.version"
"""The key in model.onnx's metadata of the version that it was made of."""


@dataclass(frozen=True, kw_only=True)
class OnnxCheckpoint(Contents):
    """What a checkpoint folder holds, loaded and checked."""

    session: Any
    """An onnxruntime.InferenceSession."""

    @property
    def on_cpu(self) -> bool:
        """True."""
        return True

    def asked(self) -> Ask:
        """What answers."""
        return self._ask

    def explain(self, text: str, *, encoded: Encoded, logits: Floats, label: str) -> Explanation:  # noqa: ARG002
        """Refused with a ConfigError: an explanation follows gradients, which this runtime does not have."""
        raise ConfigError("ONNX Runtime explains nothing: ask for predictions alone, or use the runtime torch")

    def _ask(self, encoded: Sequence[Encoded]) -> tuple[Floats, Floats]:
        logits = np.empty((len(encoded), self.config.num_classes), dtype=np.float32)
        familiar = np.empty(len(encoded), dtype=np.float32)
        for rows in batches([len(text.input_ids) for text in encoded]):
            inputs = inputs_of([encoded[row] for row in rows])
            read = {one.name: inputs[one.name] for one in self.session.get_inputs()}  # some have no n-grams
            logits[rows], familiar[rows] = self.session.run(None, read)
        return logits, familiar


def inputs_of(encoded: Sequence[Encoded]) -> dict[str, Any]:
    """What model.onnx is given: the token ids of B texts and their n-grams.

    Returns:
        input_ids (B, T) int64; slots (B, G) int64 and counts (B, G) float32, 0 where a text has fewer n-grams.
    """
    shape = len(encoded), max(len(text.ngrams.slots) for text in encoded)
    slots, counts = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
    for row, text in enumerate(encoded):
        found = len(text.ngrams.slots)
        slots[row, :found], counts[row, :found] = text.ngrams
    return {"input_ids": pad([text.input_ids for text in encoded]), "slots": slots, "counts": counts}


def load_onnx(folder: Path, *, threads: int = 0) -> OnnxCheckpoint:
    """Load a checkpoint and the model.onnx in it, as strictly as nlp_app.checkpoint does.

    Args:
        folder: the checkpoint.
        threads: that compute an answer; 0: as many as ONNX Runtime likes.

    Raises:
        CheckpointError: a file is missing or changed, or the parts do not fit each other.
    """
    contents, files = read_contents(folder)
    golden = files[parts.GOLDEN]
    del files  # the weights are in model.onnx too
    session = _session(folder / ONNX_FILE, threads)
    made_of = session.get_modelmeta().custom_metadata_map.get(VERSION)
    if made_of != contents.version:
        raise CheckpointError(
            f"{folder / ONNX_FILE} was made of version {made_of}, but the folder holds {contents.version}: "
            f"{_remedy(folder)}"
        )
    found = OnnxCheckpoint(session=session, **vars(contents))
    check_answers(folder, contents, golden, found.asked())
    return found


def open_session(model: Path | bytes, threads: int = 0) -> Any:
    """An InferenceSession of a file or its bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _session(path: Path, threads: int) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}: {_remedy(path.parent)}")
    try:
        return open_session(path, threads)
    except Exception as error:  # of classes that onnxruntime does not promise
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is no model for ONNX Runtime ({reason}): {_remedy(path.parent)}") from None


def _remedy(folder: Path) -> str:
    return f"make it with `python -m training.export {folder} --onnx`"
