"""`python -m training.evaluate --checkpoint DIR --data FILE`: how well a checkpoint does on labelled texts."""

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nlp_app.errors import OutputError, run_command
from nlp_app.folder import write_file
from nlp_app.predictor import Prediction, Predictor
from training.console import make_console, warn
from training.data import Examples, read_examples
from training.metrics import Confusion
from training.report import print_pairs

MATRIX_LABELS = 20
"""With more labels the matrix is wider than a screen: then its cells off the diagonal are listed."""


def main() -> int:
    """Evaluate as the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    parser.add_argument(
        "--data", type=Path, required=True, help="labelled texts: .csv, .tsv, .jsonl, .parquet, or .gz of it"
    )
    parser.add_argument("--text-column", nargs="+", action="extend", help="column with the text (default: text)")
    parser.add_argument("--label-column", default="label", help="column with the label (default: label)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--errors", type=Path, help="write the wrong answers to this CSV file, most confident first")
    options = parser.parse_args()
    if options.errors is not None:
        check_errors_file(options.errors, options.data)
    predictor = Predictor.load(options.checkpoint, device=options.device)
    examples = read_examples(
        options.data, text_columns=options.text_column or ["text"], label_column=options.label_column
    )
    predictions = predictor.predict(examples.texts)
    confusion = confusion_of(predictor.labels, examples, predictions)
    if options.errors is not None:
        write_file(options.errors.resolve(), errors_csv(examples, predictions))
    if options.json:
        print(json.dumps(confusion.to_json(), ensure_ascii=False, indent=2))
    else:
        print_tables(make_console(), confusion, predictor.labels)
    return 0


def check_errors_file(errors: Path, data: Path) -> None:
    """Raise an OutputError where the file of wrong answers would take the place of something else."""
    if errors.exists() and not errors.is_file():
        raise OutputError(f"--errors {errors} is no regular file: name a new one, or one to replace")
    if not errors.name:
        raise OutputError(f"--errors {str(errors)!r} is no name of a file")
    if errors.exists() and data.exists() and errors.samefile(data):
        raise OutputError(f"--errors {errors} is the --data file, which it would replace: name another")


def confusion_of(labels: Sequence[str], examples: Examples, predictions: Sequence[Prediction]) -> Confusion:
    """True against predicted; a true label that the model doesn't know has a row of its own, all of it wrong."""
    every = [*labels, *sorted(set(examples.labels) - set(labels))]
    return Confusion.of(every, examples.labels, [prediction.label for prediction in predictions])


def errors_csv(examples: Examples, predictions: Sequence[Prediction]) -> bytes:
    """The wrong answers as CSV: line, text, label, predicted, score; the most confident first."""
    answers = zip(examples.lines, examples.texts, examples.labels, predictions, strict=True)
    wrong = [answer for answer in answers if answer[2] != answer[3].label]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(("line", "text", "label", "predicted", "score"))
    for line, text, label, prediction in sorted(wrong, key=lambda answer: -answer[3].score):
        writer.writerow((line, text, label, prediction.label, prediction.score))
    return stream.getvalue().encode()


def print_tables(console: Console, confusion: Confusion, known: Sequence[str]) -> None:
    """Accuracy, macro averages, the classes, and the confusion matrix."""
    values = confusion.to_json()
    unknown = [label for label in confusion.labels if label not in known]
    if unknown:
        warn(console, f"labels that the model does not know, all counted as wrong: {unknown}")
    console.print(f"texts {values['texts']:,}  accuracy {values['accuracy']:.4f}")
    classes = Table("label", "precision", "recall", "F1", "texts")
    for label, row in values["per_class"].items():
        classes.add_row(label, *(f"{row[name]:.4f}" for name in ("precision", "recall", "f1")), f"{row['texts']:,}")
    classes.add_section()
    classes.add_row("macro", *(f"{values[f'macro_{name}']:.4f}" for name in ("precision", "recall", "f1")), "")
    console.print(classes)
    _print_matrix(console, confusion)


def _print_matrix(console: Console, confusion: Confusion) -> None:
    if len(confusion.labels) > MATRIX_LABELS:
        console.print("Confusion matrix, the cells off the diagonal (--json gives all of it):")
        print_pairs(console, confusion.worst_pairs(len(confusion.texts)))
        return
    numbers = [str(number) for number in range(1, len(confusion.labels) + 1)]
    table = Table("", "true \\ predicted", *numbers)
    for number, label, row in zip(numbers, confusion.labels, confusion.counts.tolist(), strict=True):
        table.add_row(number, label, *map(str, row))
    console.print("Confusion matrix:")
    console.print(table)


if __name__ == "__main__":
    run_command(main)
