"""`python -m training.score`: label folders of Parquet on a Ray cluster; needs the `ray` extra.

A file is a task, which a worker with a Predictor of its own reads batch by batch, labels as nlp_app.predict does, and
writes beside its name before it gives it: so a task that is tried again, since its worker died, leaves each row once.
"""

import argparse
import glob
import json
import logging
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_app.errors import ConfigError, DataError, NlpAppError, OutputError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

import pyarrow as pa
import pyarrow.parquet as pq

from nlp_app.folder import locked, writing
from nlp_app.predictor import TEXTS_PER_CHUNK, Prediction, Predictor
from nlp_app.resumable import check_same
from nlp_app.tables import join_columns
from training.console import make_console

ENDING, PARTIAL = ".parquet", ".partial"
MARK = b"nlp_app.score"
"""Of the schema's metadata: what the rows are the answer to."""
RETRIES = 4
"""Of a file whose worker died: one that takes more memory than there is kills every worker."""
ADDED = ("label", "score", "scores", "labels", "truncated", "abstained", "out_of_scope")
"""Columns of the answer, beside those of the input; labels where a text may have several."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What each worker has to know."""

    checkpoint: str
    version: str
    """The checkpoint's."""
    text_columns: tuple[str, ...]
    top_k: int

    def mark(self, source: Path) -> dict[str, Any]:
        """What an answer depends on, as JSON values."""
        stat = source.stat()
        asked = {"checkpoint": self.version, "text_columns": list(self.text_columns), "top_k": self.top_k}
        return {**asked, "source": [stat.st_size, stat.st_mtime_ns]}


def main() -> int:
    """Score as the command line says; gives the exit code."""
    options = read_options()
    files = find_files(options.input)
    if options.top_k < 1 or options.workers < 1:
        raise ConfigError("--top-k and --workers must be 1 or more")
    job = Job(
        checkpoint=str(options.checkpoint.resolve()),
        version=Predictor.load(options.checkpoint).checkpoint.version,  # or each worker would say that it cannot be
        text_columns=tuple(options.text_column or ["text"]),
        top_k=options.top_k,
    )
    with writing(options.output):
        options.output.mkdir(parents=True, exist_ok=True)
    with locked(options.output):
        score(files, job, options)
    return 0


def score(files: Sequence[Path], job: Job, options: argparse.Namespace) -> None:
    """Score them, and tell of each as it is done.

    Raises:
        DataError: some could not be scored; the others are there.
    """
    todo = to_score(files, options.output, job, resume=options.resume, overwrite=options.overwrite)
    faults = dict.fromkeys(todo, f"no worker came to its end with it in {RETRIES + 1} tries")
    console, rows = make_console(), 0
    try:
        for number, answer in enumerate(scored(todo, job, workers=options.workers, address=options.address), start=1):
            rows += answer["rows"]
            del faults[answer["source"]]
            if answer["fault"]:
                faults[answer["source"]] = answer["fault"]
            console.print(f"{number:,} of {len(todo):,} files, {rows:,} rows", highlight=False)
    finally:
        remove_torn(options.output)
    if faults:
        source, fault = next(iter(faults.items()))
        named = fault if source in fault else f"{source}: {fault}"
        more = f" (and {len(faults) - 1:,} more files)" if len(faults) > 1 else ""
        raise DataError(f"{named}{more}; the other files are in {options.output}: mend it, then --resume")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.score", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder, where every node sees it")
    parser.add_argument("--input", required=True, help=f"folder of {ENDING} files, or a pattern")
    parser.add_argument("--output", type=Path, required=True, help="folder for files of the same names")
    parser.add_argument("--text-column", action="append", help="column with the text (default: text)")
    parser.add_argument("--top-k", type=int, default=1, help="labels in `scores` (default: 1)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="a core each (default: all of here)")
    parser.add_argument("--address", help="of the cluster, auto for the one here (default: a new one on this machine)")
    parser.add_argument("--resume", action="store_true", help="leave out the files that are in --output already")
    parser.add_argument("--overwrite", action="store_true", help="replace them")
    return parser.parse_args()


def find_files(given: str) -> list[Path]:
    """The files of a folder or of a pattern, by name.

    Raises:
        DataError: there is none, or two have one name.
    """
    pattern = os.path.join(glob.escape(given), f"*{ENDING}") if Path(given).is_dir() else given  # noqa: PTH118
    files = [path for one in sorted(glob.glob(pattern, recursive=True)) if (path := Path(one)).is_file()]  # noqa: PTH207
    if not files:
        raise DataError(f"{given} has no {ENDING} file: correct --input")
    if twice := _twice(path.name for path in files):
        raise DataError(f"{given} has two files {twice}, which would be one in --output: score each folder by itself")
    return files


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def to_score(files: Sequence[Path], output: Path, job: Job, *, resume: bool, overwrite: bool) -> dict[str, str]:
    """What has to be read, and where each goes.

    Raises:
        OutputError: something is there that nobody gave up, or that is the answer to something else.
    """
    there = [path for path in files if (output / path.name).exists()]
    if any((output / path.name).samefile(path) for path in there):
        raise OutputError(f"--output {output} is where the files are read: name another folder")
    if there and not (resume or overwrite):
        raise OutputError(f"--output {output} has {there[0].name} already: --resume leaves it, --overwrite replaces it")
    if not overwrite:
        for path in there:
            check_answer(output / path.name, job.mark(path))
    remove_torn(output)
    done = frozenset() if overwrite else frozenset(there)
    return {str(path.resolve()): str((output / path.name).resolve()) for path in files if path not in done}


def check_answer(answer: Path, asked: Mapping[str, Any]) -> None:
    """Raise an OutputError where a file is not the answer to this."""
    try:
        before = json.loads((pq.read_schema(answer).metadata or {})[MARK])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        raise OutputError(
            f"{answer} was not written by training.score: name another --output, or --overwrite"
        ) from None
    check_same(before, asked, f"{answer} was written")


def remove_torn(output: Path) -> None:
    """Remove what workers that died left behind."""
    for torn in output.glob(f".*{ENDING}.{'[0-9a-f]' * 32}{PARTIAL}"):
        torn.unlink(missing_ok=True)


def scored(todo: Mapping[str, str], job: Job, *, workers: int, address: str | None) -> Iterator[dict[str, Any]]:
    """Score on the cluster; gives rows and fault of each file as it is done, and nothing of one that killed workers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("training.score needs Ray: pip install 'nlp_app[ray]'") from None
    if not todo:
        return
    local: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise ConfigError(f"--address {address}: no Ray cluster answers there ({why}): ray start --head") from None
    try:
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # every fault is told by main
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.max_errored_blocks = -1
        tasks = ray.data.from_items(
            [{"source": source, "target": target} for source, target in todo.items()], override_num_blocks=len(todo)
        )
        # One file at a time: a second one that waits for a worker that dies would be tried again too.
        pool = ray.data.ActorPoolStrategy(size=min(workers, len(todo)), max_tasks_in_flight_per_actor=1)
        scorer: Any = Scorer
        answers = tasks.map(
            scorer, fn_constructor_args=(job,), compute=pool, num_cpus=1, max_task_retries=RETRIES, max_restarts=-1
        )
        yield from answers.iter_rows()
    finally:
        ray.shutdown()


class Scorer:
    """A worker: a Predictor on one core."""

    def __init__(self, job: Job) -> None:
        import torch

        torch.set_num_threads(1)
        self._job, self._fault = job, ""
        try:
            self._predictor = Predictor.load(Path(job.checkpoint))
        except (NlpAppError, OSError) as error:  # said of a file, or the cluster would start it again without end
            self._fault = str(error)

    def __call__(self, task: dict[str, str]) -> dict[str, Any]:
        """Score a file."""
        source, rows, fault = task["source"], 0, self._fault
        if not fault:
            try:
                rows = score_file(self._predictor, self._job, Path(source), Path(task["target"]))
            except (NlpAppError, OSError) as error:
                fault = str(error)
        return {"source": source, "rows": rows, "fault": fault}


def score_file(predictor: Predictor, job: Job, source: Path, target: Path) -> int:
    """Label the rows of a file, in their order; gives how many there are.

    Raises:
        DataError: it is no whole Parquet file, lacks a column, or has one of the answer's.
    """
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}{PARTIAL}")
    mark = {MARK: json.dumps(job.mark(source))}
    count = 0
    try:
        with pq.ParquetFile(source) as file:
            check_columns(file.schema_arrow.names, job, source)
            empty = with_answers(predictor, job, file.schema_arrow.empty_table(), source)
            schema = empty.schema.with_metadata({**(empty.schema.metadata or {}), **mark})
            with beside.open("wb") as stream:
                with pq.ParquetWriter(stream, schema) as writer:
                    for batch in file.iter_batches(TEXTS_PER_CHUNK):
                        table = with_answers(predictor, job, pa.Table.from_batches([batch]), source)
                        writer.write_table(table.cast(schema))
                        count += len(table)
                stream.flush()
                os.fsync(stream.fileno())
        beside.replace(target)
    except pa.ArrowException as error:
        raise DataError(f"{source} is no whole Parquet file ({str(error).partition(chr(10))[0]})") from None
    finally:
        beside.unlink(missing_ok=True)
    return count


def check_columns(names: Sequence[str], job: Job, source: Path) -> None:
    """Raise a DataError where there is no telling them apart, one is missing, or one is of the answer."""
    if twice := _twice(names):
        raise DataError(f"{source} has two columns {twice!r}: rename one")
    if missing := [name for name in job.text_columns if name not in names]:
        raise DataError(f"{source} has no column {missing[0]!r}: its columns are {', '.join(map(repr, names))}")
    if taken := [name for name in ADDED if name in names]:
        raise DataError(f"{source} has a column {taken[0]!r} already, which the answer has too: rename it")


def with_answers(predictor: Predictor, job: Job, table: pa.Table, source: Path) -> pa.Table:
    """The columns of some rows, and those of their answers, which are null where no column has a text."""
    values = list(zip(*(texts_of(table.column(name), name, source) for name in job.text_columns), strict=True))
    there = [any(value is not None for value in row) for row in values]
    texts = [join_columns(row) for row, real in zip(values, there, strict=True) if real]
    answers = iter(predictor.predict(texts, job.top_k) if texts else [])
    rows: list[Prediction | None] = [next(answers) if real else None for real in there]
    for name, kind in columns_of(predictor).items():
        column = [None if row is None else getattr(row, name) for row in rows]
        if name == "scores":
            column = [None if of is None else [one.to_json() for one in of] for of in column]
        table = table.append_column(name, pa.array(column, kind))
    return table


def columns_of(predictor: Predictor) -> dict[str, Any]:
    """Name and Arrow type of each column of the answer."""
    kinds = {
        "label": pa.string(), "score": pa.float64(),
        "scores": pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())])),
        "labels": pa.list_(pa.string()), "truncated": pa.bool_(), "abstained": pa.bool_(), "out_of_scope": pa.bool_(),
    }  # fmt: skip
    if not predictor.checkpoint.config.multi_label:
        del kinds["labels"]
    return kinds


def texts_of(column: Any, name: str, source: Path) -> list[str | None]:
    """The texts of a column, which may be a dictionary's."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise DataError(f"{source}: the column {name!r} must hold texts, and holds {column.type}")
    try:
        texts: list[str | None] = column.to_pylist()
    except UnicodeDecodeError:
        raise DataError(f"{source}: the column {name!r} has bytes that are no UTF-8: write it anew as texts") from None
    return texts


if __name__ == "__main__":
    run_command(main)
