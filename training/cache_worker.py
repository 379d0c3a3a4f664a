"""A process that tokenises tables of texts: a line comes in for each of them, and one goes out.

Not multiprocessing's: that would import torch here too, through the main program, and take its memory for nothing.
"""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nlp_app.tokenizer import Tokenizer
from training.cache_files import Entry, read_table, write_table

SHORT_IDS = 1 << 16
"""Of so small a vocabulary ids take two bytes."""


def main() -> int:
    """Work until standard input ends, as it does where the run that started this is killed."""
    path, max_length = sys.argv[1:]
    tokenizer = Tokenizer.from_bytes(Path(path).read_bytes())
    for line in sys.stdin:
        answer = json.dumps(_answer(json.loads(line), tokenizer, int(max_length)))
        with contextlib.suppress(BrokenPipeError):  # whoever asked was killed
            os.write(1, answer.encode() + b"\n")
    return 0


def tokenise_table(texts: Path, output: Path, tokenizer: Tokenizer, max_length: int) -> Entry:
    """Encode a table of texts into a table of ids; gives its entry."""
    encoded = tokenizer.encode(read_table(texts)["text"].to_pylist(), max_length=max_length)
    kind = np.uint16 if tokenizer.vocab_size <= SHORT_IDS else np.int32
    ends = np.cumsum([0, *(len(tokens.input_ids) for tokens in encoded)], dtype=np.int32)
    ids = np.concatenate(
        [np.zeros(0, dtype=kind), *(tokens.input_ids for tokens in encoded)], dtype=kind, casting="unsafe"
    )
    return write_table(output, {"input_ids": pa.ListArray.from_arrays(pa.array(ends), pa.array(ids))})


def _answer(job: dict[str, str], tokenizer: Tokenizer, max_length: int) -> dict[str, Any]:
    try:
        return tokenise_table(Path(job["texts"]), Path(job["output"]), tokenizer, max_length)
    except OSError as error:  # a full disk: who asked says it
        return {"errno": error.errno, "reason": error.strerror}


if __name__ == "__main__":
    sys.exit(main())
