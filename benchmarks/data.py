"""`python -m benchmarks.data`: training on many texts: memory, how fast they come into the cache, processes, the audit.

The texts are those of two sets, a word of each replaced by chance, again and again. Memory is RssAnon of all processes
of a run together, sampled as it goes: what is mapped from files is no part of it, for the system takes that back.
"""

import argparse
import csv
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import distributed
from benchmarks.common import device_name, markdown
from benchmarks.loop import data_folder
from benchmarks.rss import peak_of
from nlp_app.device import find_device
from nlp_app.errors import run_command
from training.audit_quick import quick_warnings
from training.console import make_console
from training.data import read_examples
from training.measure import median_seconds

SETS = ("banking77", "trec6")
FEW, MANY = 100_000, 10_000_000
RATIO_BAR, RATE_BAR, QUICK, WHOLE_S = 1.2, 0.5, 0.1, 120
AUDITED = ("banking77", "imdb")
LIBRARY_TEXTS = 200_000
"""That the library alone is timed on, three times."""
LIBRARY = """
import sys, time, tokenizers
backend = tokenizers.Tokenizer.from_file(sys.argv[1])
texts = open(sys.argv[2], encoding="utf-8").read().splitlines()
started = time.perf_counter()
backend.encode_batch_fast(texts)
print(len(texts) / (time.perf_counter() - started))
"""
Row = Mapping[str, Any]


def memory(texts: int, steps: int | None) -> dict[str, Any]:
    """Both runs, and the library's rate beside that of reading and tokenising in the larger one."""
    with tempfile.TemporaryDirectory(prefix="benchmark-data-") as name:
        folder = Path(name)
        few = run(folder, FEW, steps)
        library = library_rate(folder)  # just before what it is set beside
        many = run(folder, texts, steps)
    rows = [_row(f"memory of {texts:,} texts to that of {FEW:,}", many["peak_mb"] / few["peak_mb"], most=RATIO_BAR)]
    if many["cached_per_s"]:
        rate = many["cached_per_s"] / library
        rows.append(_row("reading and tokenising, of the tokenizers library's rate", rate, least=RATE_BAR))
    return {"texts": texts, "steps": steps, "runs": [few, many], "library_per_s": library, "rows": rows}


def processes() -> dict[str, Any]:
    """Two processes beside one; a row for each size of batch."""
    found = distributed.measure(find_device("cpu"))
    rows = [
        _row(f"two processes to one, {row['texts']} texts of {row['tokens']} tokens a batch", row["wall"]["median"],
             least=distributed.BAR)
        for row in found["rows"]
    ]  # fmt: skip
    return {"distributed": found, "rows": rows}


def audits() -> dict[str, Any]:
    """The quick audit beside a default training run, and the whole one."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="benchmark-data-") as folder:
        for name in AUDITED:
            train, test = (data_folder() / name / f"{part}.csv.gz" for part in ("train", "test"))
            examples = read_examples(train)
            quick = median_seconds([partial(quick_warnings, examples)], find_device("cpu"), rounds=3)[0]
            trained = _timed("training.run", "--train", str(train), "--output", f"{folder}/{name}")
            rows.append(_row(f"the quick audit of {name}, of {trained:.0f} s of training", quick / trained, most=QUICK))
        whole = _timed("training.audit", str(train), "--test", str(test))
        rows.append(_row(f"the whole audit of {name}, s", whole, most=WHOLE_S))
    return {"rows": rows}


def _row(what: str, value: float, *, least: float | None = None, most: float | None = None) -> Row:
    kept = (least is None or value >= least) and (most is None or value <= most)
    return {"what": what, "value": value, "bar": f"≥ {least}" if most is None else f"≤ {most}", "kept": kept}


def _timed(module: str, *words: str) -> float:
    """Seconds of a command of the project."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", module, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def run(folder: Path, texts: int, steps: int | None) -> dict[str, Any]:
    """Train one epoch, or some steps of it, on so many texts; what it took."""
    source, output, cache = folder / f"{texts}.csv", folder / f"model-{texts}", folder / f"cache-{texts}"
    write_texts(source, texts)
    limit = [] if steps is None else ["--max-steps", str(steps)]
    started = time.perf_counter()
    peak, printed = peak_of([
        sys.executable, "-m", "training.run", "--train", str(source), "--output", str(output),
        "--cache-dir", str(cache), "--epochs", "1", *limit,
    ])  # fmt: skip
    seconds = time.perf_counter() - started
    metrics = json.loads((output / "metrics.json").read_bytes())
    stages = stage_rates(printed)
    cached = 1 / sum(1 / rate for rate in stages.values()) if len(stages) == 2 else 0.0
    size = sum(path.stat().st_size for path in cache.rglob("*")) if cache.exists() else 0
    return {
        "texts": texts, "seconds": seconds, "peak_mb": peak / 1e6, "cached_per_s": cached, "stages": stages,
        "cache_bytes_per_text": size / texts, "file_bytes_per_text": source.stat().st_size / texts,
        "train_per_s": metrics["train"]["texts_per_s"], "sampled": metrics["sampled"],
        "accuracy": metrics["validation"]["accuracy"],
    }  # fmt: skip


def stage_rates(printed: str) -> dict[str, float]:
    """texts/s of each stage that a run tells of."""
    lines = [line for line in printed.splitlines() if line.endswith("texts/s") and " texts in " in line]
    return {line.split()[0]: float(line.split()[-2].replace(",", "")) for line in lines}


def library_rate(folder: Path) -> float:
    """texts/s of the library's own batches with its own threads, on the first texts of both runs; the best of three."""
    plain, tokenizer = folder / "texts.txt", folder / f"model-{FEW}" / "tokenizer.json"
    made = (text for _, (text, _) in zip(range(LIBRARY_TEXTS), labelled_texts(), strict=False))
    plain.write_text("\n".join(" ".join(text.split()) for text in made) + "\n", encoding="utf-8")
    command = [sys.executable, "-c", LIBRARY, str(tokenizer), str(plain)]
    return max(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(3))


def write_texts(path: Path, count: int) -> None:
    """A file of so many texts with their labels."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(row for _, row in zip(range(count), labelled_texts(), strict=False))


def labelled_texts() -> Iterator[tuple[str, str]]:
    """Texts of the sets, a word of each replaced by one of them all; always the same, without an end."""
    rows: list[tuple[str, str]] = []
    for name in SETS:
        with gzip.open(data_folder() / name / "train.csv.gz", "rt", encoding="utf-8", newline="") as file:
            rows += [(row["text"], f"{name} {row['label']}") for row in csv.DictReader(file)]
    words = [word for text, _ in rows for word in text.split()]
    draw = random.Random(0)
    while True:
        text, label = draw.choice(rows)
        changed = text.split()
        changed[draw.randrange(len(changed))] = draw.choice(words)
        yield " ".join(changed), label


def section(result: Mapping[str, Any]) -> str:
    """Two tables: each run, and each bar."""
    tables = [bars(result["rows"])]
    if "distributed" in result:
        tables.insert(0, distributed.section(result["distributed"]))
    if "runs" in result:
        tables.insert(0, _runs(result))
    return "\n\n".join(tables)


def _runs(result: Mapping[str, Any]) -> str:
    runs = [
        (f"{run['texts']:,}", f"{run['peak_mb']:,.0f}", f"{run['cached_per_s']:,.0f}" if run["cached_per_s"] else "",
         f"{run['train_per_s']:,.0f}", f"{run['cache_bytes_per_text']:.0f}" if run["cache_bytes_per_text"] else "",
         f"{run['seconds']:,.0f}")
        for run in result["runs"]
    ]  # fmt: skip
    header = (
        "texts",
        "peak RssAnon, MB",
        "read and tokenised, texts/s",
        "trained, texts/s",
        "cache, bytes a text",
        "s",
    )
    epoch = "one epoch" if result["steps"] is None else f"the first {result['steps']:,} steps of an epoch"
    return (
        f"{markdown(header, runs)}\n\n"
        f"The default model, {epoch}, {device_name(find_device('cpu'))}; the library alone, with its own threads: "
        f"{result['library_per_s']:,.0f} texts/s."
    )


def bars(rows: Sequence[Row]) -> str:
    """A table of what was to be reached."""
    shown = [(row["what"], f"{row['value']:.3g}", row["bar"], "kept" if row["kept"] else "missed") for row in rows]
    return markdown(("what", "value", "bar", ""), shown)


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "memory": lambda options: memory(options.texts, options.steps),
    "processes": lambda _: processes(),
    "audits": lambda _: audits(),
}


def main() -> int:
    """Measure, print, write; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--texts", type=int, default=MANY, help="of the larger set")
    parser.add_argument("--steps", type=int, help="of the epoch, at most, in both runs (default: all)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="(default: all)")
    parser.add_argument("--output", type=Path, help="write every figure to this JSON file")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for part in options.parts:
        results[part] = PARTS[part](options)
        make_console().print(section(results[part]), "\n")
        if options.output:
            options.output.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    run_command(main)
