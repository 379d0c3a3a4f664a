"""`python -m nlp_app.predict --checkpoint DIR FILE…|-`: label texts of files or a pipe, one JSON object a line.

A table (.csv, .tsv, .jsonl, .json, .parquet, .arrow, each also packed) is read by its text column; any other file and
the pipe hold a text a line. Memory does not grow with the size of the files. With --output and --resume a run that was
stopped goes on.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from nlp_app.errors import ConfigError, DataError, OutputError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

from nlp_app.folder import is_among
from nlp_app.predictor import TEXTS_PER_CHUNK, Predictor
from nlp_app.recoding import check_encoding
from nlp_app.resumable import Lines, parts_of
from nlp_app.rows import Value
from nlp_app.tables import is_table, join_columns, read_lines, read_rows, read_texts

Texts = Iterator[tuple[str, dict[str, Value]]]
"""Each with what is kept of its row."""
ANSWER = {"text", "label", "labels", "score", "scores", "out_of_scope", "abstained", "truncated", "explanation"}
"""Keys of an answer."""
Write = Callable[[Sequence[bytes]], None]


def main() -> int:
    """Label as the command line says; gives the exit code."""
    options = read_options()
    if options.top_k < 1:
        raise ConfigError(f"--top-k is {options.top_k}, but must be 1 or more")
    if options.output is None and (options.resume or options.overwrite):
        raise ConfigError("--resume and --overwrite are of --output: name the file")
    if options.output is not None and "-" in options.file:
        raise ConfigError(
            "--output goes on where it was, which a pipe cannot: name a file, or write to standard output"
        )
    if taken := [name for name in options.keep if name in ANSWER]:
        raise ConfigError(f"--keep {taken[0]} would stand where the answer's own {taken[0]} stands: rename the column")
    check_encoding(options.encoding)
    if options.output is not None:
        check_output(options.output, options.file)
    predictor = Predictor.load(options.checkpoint, device=options.device)
    texts = chain.from_iterable(texts_of(name, options) for name in options.file)
    if options.output is None:
        label(predictor, texts, _to_standard_output, options)
        return 0
    with Lines(
        options.output,
        asked=asked(options, predictor),
        at_once=TEXTS_PER_CHUNK,
        resume=options.resume,
        overwrite=options.overwrite,
    ) as lines:
        label(predictor, islice(texts, lines.done, None), lines.write, options)
    return 0


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m nlp_app.predict", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    parser.add_argument(
        "file", nargs="+", metavar="FILE|-", help="files of texts, or - for a text a line on standard input"
    )
    parser.add_argument("--text-column", action="append", help="column with the text (default: text)")
    parser.add_argument("--keep", action="append", default=[], help="column that is copied to each answer, as an id")
    parser.add_argument("--encoding", help="of files of text, such as cp1251 (default: UTF-8, or what its mark says)")
    parser.add_argument("--top-k", type=int, default=1, help="labels in `scores` (default: 1)")
    parser.add_argument("--explain", action="store_true", help="add what each token of the text adds to its label")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default: cpu)")
    parser.add_argument("--output", type=Path, help="file for the answers (default: standard output)")
    parser.add_argument("--resume", action="store_true", help="go on with the --output of a run that was stopped")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --output")
    return parser.parse_args()


def check_output(output: Path, files: Sequence[str]) -> None:
    """Raise an OutputError where the answers would take the place of what is read, or of what is no file."""
    if output.exists() and not output.is_file():
        raise OutputError(f"--output {output} is no file: name one")
    for one in (output, *parts_of(output)):
        if is_among(one, map(Path, files)):
            raise OutputError(f"--output {output}: {one} is a file that is read, which it would replace: name another")


def asked(options: argparse.Namespace, predictor: Predictor) -> dict[str, Any]:
    """What an answer depends on."""
    files = [Path(name).resolve() for name in options.file]
    stats = [(str(file), file.stat()) for file in files if file.exists()]
    return {
        "checkpoint": predictor.checkpoint.version,
        "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
        **{name: getattr(options, name) for name in ("text_column", "keep", "encoding", "top_k", "explain", "device")},
    }


def texts_of(name: str, options: argparse.Namespace) -> Texts:
    """The texts of a file, or of standard input."""
    if name == "-":
        if sys.stdin is None:
            raise DataError("standard input is closed: pipe a text a line into it, or name a file")
        yield from ((text, {}) for text in read_lines(sys.stdin.buffer, Path("standard input")))
        return
    path, columns, keep = Path(name), options.text_column or ["text"], options.keep
    if not keep:
        yield from ((text, {}) for text in read_texts(path, columns, encoding=options.encoding))
        return
    if not is_table(path):
        raise DataError(f"{path} holds a text a line, so it has no column {keep[0]!r}: leave --keep out")
    lists = [name for name in keep if name not in columns]
    for _, values in read_rows(path, [*columns, *keep], lists, encoding=options.encoding):
        yield join_columns(values[: len(columns)]), dict(zip(keep, values[len(columns) :], strict=True))


def label(predictor: Predictor, texts: Texts, write: Write, options: argparse.Namespace) -> None:
    """Write what was kept of each text, the text and its prediction, in order."""
    while chunk := list(islice(texts, TEXTS_PER_CHUNK)):
        predictions = predictor.predict([text for text, _ in chunk], options.top_k, explain=options.explain)
        write(
            [
                json.dumps({**kept, "text": text, **prediction.to_json()}, ensure_ascii=False).encode() + b"\n"
                for (text, kept), prediction in zip(chunk, predictions, strict=True)
            ]
        )


def _to_standard_output(lines: Sequence[bytes]) -> None:
    sys.stdout.buffer.writelines(lines)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    run_command(main)
