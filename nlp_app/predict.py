"""`python -m nlp_app.predict --checkpoint DIR FILE|-`: label texts from a file or a pipe, one JSON object a line.

A .csv, .tsv, .jsonl or .parquet file, also as .gz, is read by its text column; any other file and the pipe hold a
text a line. Memory does not grow with the size of the file.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from nlp_app.errors import ConfigError, DataError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

from nlp_app.predictor import TEXTS_PER_CHUNK, Predictor
from nlp_app.tables import read_lines, read_texts


def main() -> int:
    """Label as the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m nlp_app.predict", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("file", metavar="FILE|-", help="file of texts, or - for a text a line on standard input")
    parser.add_argument("--text-column", action="append", help="column with the text (default: text)")
    parser.add_argument("--top-k", type=int, default=1, help="labels in `scores` (default: 1)")
    parser.add_argument("--explain", action="store_true", help="add what each token of the text adds to its label")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default: cpu)")
    options = parser.parse_args()
    if options.top_k < 1:
        raise ConfigError(f"--top-k is {options.top_k}, but must be 1 or more")
    predictor = Predictor.load(options.checkpoint, device=options.device)
    if options.file == "-":
        if sys.stdin is None:
            raise DataError("standard input is closed: pipe a text a line into it, or name a file")
        texts = read_lines(sys.stdin.buffer, Path("standard input"))
    else:
        texts = read_texts(Path(options.file), options.text_column or ["text"])
    label(predictor, texts, options.top_k, explain=options.explain)
    return 0


def label(predictor: Predictor, texts: Iterator[str], top_k: int, *, explain: bool) -> None:
    """Write the text and its prediction for each text, in order."""
    while chunk := list(islice(texts, TEXTS_PER_CHUNK)):
        for text, prediction in zip(chunk, predictor.predict(chunk, top_k, explain=explain), strict=True):
            line = json.dumps({"text": text, **prediction.to_json()}, ensure_ascii=False)
            sys.stdout.buffer.write(line.encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    run_command(main)
