"""A checkpoint: parameters only, in a folder of six files, none of them a pickle (docs/checkpoint-format.md).

"Parameters only" is the whole state_dict: weights and BatchNorm's buffers, without which a loaded model would
normalise with mean 0 and variance 1. The file fills a module that is built from the config; it never builds one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch.overrides import TorchFunctionMode

from nlp_app import parts
from nlp_app.compiled import fastest
from nlp_app.config import ModelConfig
from nlp_app.contents import Contents, check_answers, read_contents
from nlp_app.decision import Decision
from nlp_app.encoding import Encoded
from nlp_app.errors import CheckpointError, ConfigError
from nlp_app.explain import explain_text
from nlp_app.explanation import Explanation
from nlp_app.folder import MANIFEST, write_file
from nlp_app.golden import make_golden
from nlp_app.model import TextClassifier
from nlp_app.probabilities import Ask, Floats
from nlp_app.quantize import FLOAT32, INT8, PACKED, dequantize, quantize, round_weights, stored_like
from nlp_app.scoring import ask
from nlp_app.tokenizer import Tokenizer
from nlp_app.weights import check_values, matching_state, read_weights


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Contents):
    """What a checkpoint folder holds, loaded and checked."""

    module: TextClassifier
    """In eval mode, on the device that was asked for."""

    @property
    def on_cpu(self) -> bool:
        """Whether an answer is computed where it is asked for."""
        return self.module.device.type == "cpu"

    def asked(self) -> Ask:
        """What answers, in the least time."""
        return partial(ask, fastest(self.module))

    def explain(self, text: str, *, encoded: Encoded, logits: Floats, label: str) -> Explanation:
        """As of nlp_app.explain.explain_text."""
        return explain_text(
            text, module=self.module, tokenizer=self.tokenizer, encoded=encoded, logits=logits, label=label
        )


def save_checkpoint(
    folder: Path,
    *,
    module: TextClassifier,
    tokenizer: Tokenizer,
    trained: Mapping[str, Any],
    metrics: Mapping[str, Any],
    decision: Decision | None = None,
    weights: str = FLOAT32,
) -> str:
    """Write the six files, the manifest last; the caller publishes the folder.

    Args:
        folder: an existing folder, the work folder of an output.
        module: in eval mode, on the CPU.
        tokenizer: the one that the module was trained with.
        trained: what to tell of the training in config.json; no clock time, so that equal runs give equal versions.
        metrics: what to write into metrics.json; `model.bytes` and `model.version` are added.
        decision: what is said at which score; None for the most probable label, always.
        weights: how they are stored; for int8 the module is given the rounded ones, as a load will.

    Returns:
        The model's version.

    Raises:
        OutputError: the folder cannot be written.
    """
    if weights == INT8:
        round_weights(module)
    state = quantize(module.state_dict()) if weights == INT8 else module.state_dict()
    contents = {
        parts.MODEL: safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()}),
        parts.CONFIG: parts.to_json(
            {
                "model": module.config.to_json(),
                "weights": PACKED if weights == INT8 else weights,
                "decision": (decision or Decision()).to_json(),
                "trained": trained,
            }
        ),
        parts.TOKENIZER: tokenizer.to_bytes(),
        parts.GOLDEN: parts.to_json(make_golden(partial(ask, module), tokenizer=tokenizer, config=module.config)),
    }
    manifest = parts.to_json(
        {
            "format_version": parts.FORMAT_VERSION,
            "sha256": {name: parts.sha256(data) for name, data in contents.items()},
        }
    )
    version = parts.sha256(manifest)[:12]
    model = {**metrics.get("model", {}), "bytes": len(contents[parts.MODEL]), "version": version}
    contents[parts.METRICS] = parts.to_json({**metrics, "model": model})
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
    contents, files = read_contents(folder)
    module, config = _build(folder, contents.config), contents.config
    weights, expected = read_weights(folder, files[parts.CONFIG]), module.state_dict()
    if weights != FLOAT32:
        expected = stored_like(expected, packed=weights == PACKED)
    stored = matching_state(folder / parts.MODEL, files[parts.MODEL], expected)
    state = dequantize(stored, slots=config.ngram_slots)
    check_values(folder / parts.MODEL, state)
    try:
        module.load_state_dict(state, strict=True, assign=True)
    except ConfigError as error:
        raise CheckpointError(f"{folder / parts.MODEL} does not fit together: {error}; {parts.REMEDY}") from None
    check_answers(folder, contents, files[parts.GOLDEN], partial(ask, module.eval()))
    return Checkpoint(module=module.to(device or torch.device("cpu")), **vars(contents))


class _WithoutValues(TorchFunctionMode):
    """Draws no first values: on the meta device torch would import its compiler for that, 0.1 GB and a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _build(folder: Path, config: ModelConfig) -> TextClassifier:
    """Shapes without memory: a config that does not fit the tensors is refused before it takes any."""
    try:
        with torch.device("meta"), _WithoutValues():
            return TextClassifier(config=config)
    except (RuntimeError, TypeError, OverflowError) as error:
        reason = f"a module of these sizes cannot be built ({str(error).partition(chr(10))[0]})"
        raise CheckpointError(f"{folder / parts.CONFIG} is no model's config: {reason}; {parts.REMEDY}") from None
