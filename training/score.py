"""`python -m training.score`: label folders of Parquet on a Ray cluster; needs the `ray` extra.

A file is a task, which a worker with a Predictor of its own reads batch by batch, labels as nlp_app.predict does, and
writes beside its name before it gives it: so a task that is tried again, since its worker died, leaves each row once.
"""

import argparse
import glob
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_app.errors import ConfigError, DataError, OutputError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

import pyarrow as pa
import pyarrow.parquet as pq

from nlp_app.predictor import TEXTS_PER_CHUNK, Prediction, Predictor
from nlp_app.tables import join_columns
from training.console import make_console

ENDING = ".parquet"
ADDED = ("label", "score", "scores")
"""Columns of the answer, beside those of the input."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What each worker has to know."""

    checkpoint: str
    text_columns: tuple[str, ...]
    top_k: int


def main() -> int:
    """Score as the command line says; gives the exit code."""
    options = read_options()
    files = find_files(options.input)
    if options.top_k < 1 or options.workers < 1:
        raise ConfigError("--top-k and --workers must be 1 or more")
    Predictor.load(options.checkpoint)  # or each worker would say that it cannot be
    todo = to_score(files, options.output, resume=options.resume, overwrite=options.overwrite)
    job = Job(
        checkpoint=str(options.checkpoint.resolve()),
        text_columns=tuple(options.text_column or ["text"]),
        top_k=options.top_k,
    )
    console, rows, faults = make_console(), 0, []
    for number, answer in enumerate(scored(todo, job, workers=options.workers, address=options.address), start=1):
        rows += answer["rows"]
        faults += [answer["fault"]] if answer["fault"] else []
        console.print(f"{number:,} of {len(todo):,} files, {rows:,} rows", highlight=False)
    if faults:
        more = f" (and {len(faults) - 1:,} more files)" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{more}; the other files are in {options.output}: mend it, then --resume")
    return 0


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
    names = [path.name for path in files]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{given} has two files {twice}, which would be one in --output: score each folder by itself")
    return files


def to_score(files: Sequence[Path], output: Path, *, resume: bool, overwrite: bool) -> list[tuple[str, str]]:
    """What has to be read and where it goes; makes the folder.

    Raises:
        OutputError: something is there that nobody gave up.
    """
    output.mkdir(parents=True, exist_ok=True)
    there = [path for path in files if (output / path.name).exists()]
    if any((output / path.name).samefile(path) for path in there):
        raise OutputError(f"--output {output} is where the files are read: name another folder")
    if there and not (resume or overwrite):
        raise OutputError(f"--output {output} has {there[0].name} already: --resume leaves it, --overwrite replaces it")
    left = [path for path in files if overwrite or path not in there]
    return [(str(path.resolve()), str((output / path.name).resolve())) for path in left]


def scored(todo: Sequence[tuple[str, str]], job: Job, *, workers: int, address: str | None) -> Iterator[dict[str, Any]]:
    """Score on the cluster; gives rows and fault of each file as it is done."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError("training.score needs Ray: pip install 'nlp_app[ray]'") from None
    if not todo:
        return
    local: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        tasks = ray.data.from_items(
            [{"source": source, "target": target} for source, target in todo], override_num_blocks=len(todo)
        )
        pool = ray.data.ActorPoolStrategy(size=min(workers, len(todo)))
        scorer: Any = Scorer
        yield from tasks.map(scorer, fn_constructor_args=(job,), compute=pool, num_cpus=1).iter_rows()
    finally:
        ray.shutdown()


class Scorer:
    """A worker: a Predictor on one core."""

    def __init__(self, job: Job) -> None:
        import torch

        torch.set_num_threads(1)
        self._job, self._predictor = job, Predictor.load(Path(job.checkpoint))

    def __call__(self, task: dict[str, str]) -> dict[str, Any]:
        """Score a file."""
        try:
            return {
                "rows": score_file(self._predictor, self._job, Path(task["source"]), Path(task["target"])),
                "fault": "",
            }
        except (DataError, OSError) as error:
            return {"rows": 0, "fault": str(error)}


def score_file(predictor: Predictor, job: Job, source: Path, target: Path) -> int:
    """Label the rows of a file, in their order; gives how many there are.

    Raises:
        DataError: it is no whole Parquet file, lacks a column, or has one of the answer's.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    count = 0
    try:
        with pq.ParquetFile(source) as file:
            names = file.schema_arrow.names
            if missing := [name for name in job.text_columns if name not in names]:
                raise DataError(f"{source} has no column {missing[0]!r}: its columns are {', '.join(map(repr, names))}")
            if taken := [name for name in ADDED if name in names]:
                raise DataError(f"{source} has a column {taken[0]!r} already, which the answer has too: rename it")
            writer = None
            for batch in file.iter_batches(TEXTS_PER_CHUNK):
                table = with_answers(predictor, job, batch, source)
                writer = writer or pq.ParquetWriter(beside, table.schema)
                writer.write_table(table)
                count += len(table)
            if writer is None:
                pq.write_table(with_answers(predictor, job, file.schema_arrow.empty_table(), source), beside)
            else:
                writer.close()
        beside.replace(target)
    except pa.ArrowException as error:
        raise DataError(f"{source} is no whole Parquet file ({str(error).partition(chr(10))[0]})") from None
    finally:
        beside.unlink(missing_ok=True)
    return count


def with_answers(predictor: Predictor, job: Job, batch: Any, source: Path) -> pa.Table:
    """The columns of some rows, and those of their answers."""
    table = pa.table(batch) if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
    columns = [table.column(name) for name in job.text_columns]
    if any(not (pa.types.is_string(one.type) or pa.types.is_large_string(one.type)) for one in columns):
        raise DataError(f"{source}: {', '.join(job.text_columns)} must hold texts")
    texts = [join_columns(values) for values in zip(*(one.to_pylist() for one in columns), strict=True)]
    answers: list[Prediction] = predictor.predict(texts, job.top_k) if texts else []
    scores = [[{"label": one.label, "score": one.score} for one in answer.scores] for answer in answers]
    kind = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))
    table = table.append_column("label", pa.array([answer.label for answer in answers], pa.string()))
    table = table.append_column("score", pa.array([answer.score for answer in answers], pa.float64()))
    return table.append_column("scores", pa.array(scores, kind))


if __name__ == "__main__":
    run_command(main)
