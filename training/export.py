"""`python -m training.export DIR --onnx`: model.onnx beside a checkpoint, for servers without torch."""

import argparse
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nlp_app.errors import OutputError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

import numpy as np
import torch

from nlp_app.checkpoint import Checkpoint, load_checkpoint
from nlp_app.encoding import encode
from nlp_app.errors import ConfigError
from nlp_app.folder import ONNX_FILE, write_file
from nlp_app.golden import WORD_COUNTS, random_texts
from nlp_app.onnx_checkpoint import VERSION, OnnxCheckpoint, inputs_of, open_session
from nlp_app.probabilities import Ask, to_probabilities
from nlp_app.scoring import ask
from training.onnx_module import OnnxModule

TEXTS, LONGEST = 1000, 100
"""Asked of both runtimes: from none to so many words each."""
TOLERANCE = 1e-5
"""Of a probability, and of a logit, relative to its size where that is above 1."""
NOISY = ("torch.onnx", "onnxscript", "onnx_ir")


def main() -> int:
    """Write what the command line names; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder")
    parser.add_argument("--onnx", action="store_true", required=True, help="write model.onnx, for ONNX Runtime")
    folder = parser.parse_args().checkpoint
    checkpoint = load_checkpoint(folder)
    data = to_onnx(checkpoint)
    found = OnnxCheckpoint(session=open_session(data), **contents_of(checkpoint))
    count, furthest = compare(checkpoint, found.asked())
    write_file(folder / ONNX_FILE, data)
    print(f"{folder / ONNX_FILE} has {len(data):,} bytes; on {count:,} texts no probability differs by {furthest:.1e}")
    return 0


def contents_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """All but the module."""
    return {name: value for name, value in vars(checkpoint).items() if name != "module"}


def to_onnx(checkpoint: Checkpoint) -> bytes:
    """The module as ONNX, with the checkpoint's version in its metadata.

    Raises:
        ConfigError: a package that exports is not there.
    """
    config = checkpoint.config
    sample = inputs_of(encode(["a b", "c d e f g"], tokenizer=checkpoint.tokenizer, config=config))
    names = [name for name in sample if config.ngram_rows or name == "input_ids"]
    sizes = {name: {0: "texts", 1: "tokens" if name == "input_ids" else "ngrams"} for name in names}
    with quiet():
        try:
            program = torch.onnx.export(
                OnnxModule(checkpoint.module).eval(),
                tuple(torch.from_numpy(sample[name]) for name in names),
                dynamic_shapes=tuple(sizes[name] for name in names),
                input_names=names,
                output_names=["logits", "familiarity"],
                dynamo=True,
                verbose=False,
            )
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"--onnx needs the package {error.name}, which is not there: pip install 'nlp_app[export]'"
            ) from None
    assert program is not None
    model = program.model_proto
    model.metadata_props.add(key=VERSION, value=checkpoint.version)
    data: bytes = model.SerializeToString()
    return data


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter tells of what is none of the user's business."""
    levels = {name: logging.getLogger(name).level for name in NOISY}
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def compare(checkpoint: Checkpoint, other: Ask) -> tuple[int, float]:
    """Ask both on the golden inputs, each alone, and on texts of every length, together.

    Returns:
        The number of texts, and the largest difference of a probability.

    Raises:
        OutputError: a probability or a logit differs by more than TOLERANCE.
    """
    golden = random_texts(checkpoint.tokenizer, WORD_COUNTS)
    many = random_texts(checkpoint.tokenizer, [number % (LONGEST + 1) for number in range(TEXTS)])
    furthest = max(map(partial(difference, checkpoint, other), [*([text] for text in golden), many]))
    return len(golden) + len(many), furthest


def difference(checkpoint: Checkpoint, other: Ask, texts: Sequence[str]) -> float:
    """The largest of a probability; as of compare."""
    config = checkpoint.config
    encoded = encode(texts, tokenizer=checkpoint.tokenizer, config=config)
    (logits, familiar), (theirs, known) = ask(checkpoint.module, encoded), other(encoded)
    of_each = [to_probabilities(each, multi_label=config.multi_label) for each in (logits, theirs)]
    furthest = float(np.abs(of_each[0] - of_each[1]).max())
    same = np.allclose(logits, theirs, rtol=TOLERANCE, atol=TOLERANCE) and np.allclose(familiar, known, atol=TOLERANCE)
    if not same or furthest > TOLERANCE:
        raise OutputError(
            f"ONNX Runtime answers otherwise than torch by up to {furthest:.1e} (at most {TOLERANCE:.0e} is let pass): "
            "nothing was written; update onnxruntime"
        )
    return furthest


if __name__ == "__main__":
    run_command(main)
