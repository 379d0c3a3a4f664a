"""`python -m training.evaluate --checkpoint DIR --data FILE`: how well a checkpoint does on labelled texts."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nlp_app.errors import OutputError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

import torch
from rich.console import Console
from rich.table import Table

from nlp_app.delimited import to_csv
from nlp_app.folder import write_file
from nlp_app.predictor import Prediction, Predictor
from nlp_app.recoding import check_encoding
from training.columns import TEXT
from training.console import make_console, warn
from training.data import Examples, Labels, check_kind, read_examples, read_strangers
from training.flags import filled
from training.metrics import Confusion, LabelSets, Tally
from training.reliability import check_plot, plot_reliability
from training.report import print_pairs
from training.sources import files_of, names_of
from training.writable import check_file

MATRIX_LABELS = 20
"""With more labels the matrix is wider than a screen: then its cells off the diagonal are listed."""


def main() -> int:
    """Evaluate as the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    parser.add_argument(
        "--data",
        type=filled("--data"),
        nargs="+",
        required=True,
        help="labelled texts: whatever --train of training.run takes",
    )
    parser.add_argument("--query", type=filled("--query"), help="what to read of a database: SELECT text, label FROM …")
    parser.add_argument("--encoding", type=filled("--encoding"), help="of files of text, such as cp1251")
    parser.add_argument("--text-column", nargs="+", action="extend", help="column with the text (default: text)")
    parser.add_argument(
        "--label-column", help="column with the label, or with lists of labels (default: label, labels)"
    )
    parser.add_argument(
        "--label-separator",
        type=filled("--label-separator"),
        help="what stands between the labels of a text that may have several",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--errors", type=filled("--errors", Path), help="write the wrong answers to this CSV file, most confident first"
    )
    parser.add_argument(
        "--out-of-scope", type=Path, help="texts unlike the model's: tell how many are called out of scope"
    )
    parser.add_argument(
        "--reliability-plot", type=Path, help="draw scores against shares of right answers into this .png or .svg file"
    )
    options = parser.parse_args()
    if options.reliability_plot is not None:
        check_plot(options.reliability_plot)
    check_encoding(options.encoding)
    data = tuple(options.data)
    if options.errors is not None:
        check_errors_file(options.errors, files_of(data))
    predictor = Predictor.load(options.checkpoint, device=options.device)
    examples = read_examples(
        data,
        text_columns=options.text_column or (),
        label_column=options.label_column,
        separator=options.label_separator,
        encoding=options.encoding,
        query=options.query,
        split="test",
    )
    columns = options.text_column or [TEXT]
    check_kind(examples, multi_label=predictor.checkpoint.config.multi_label)
    predictions = predictor.predict(examples.texts)
    tally = tally_of(predictor.labels, examples, predictions)
    strangers = predictor.predict(read_strangers(options.out_of_scope, columns, options.encoding))
    if options.errors is not None:
        write_file(options.errors.resolve(), errors_csv(examples, predictions))
    if options.reliability_plot is not None:
        scores = torch.tensor([prediction.score for prediction in predictions])
        right = torch.tensor([*map(is_best_right, examples.label_lists, predictions)])
        plot_reliability(options.reliability_plot, scores, right, title=names_of(data) or "")
    scope = {"texts": share_out_of_scope(predictions), "strangers": share_out_of_scope(strangers)}
    if options.json:
        print(json.dumps({**tally.to_json(), "out_of_scope": scope}, ensure_ascii=False, indent=2))
    else:
        print_tables(make_console(), tally, predictor.labels)
        print_scope(make_console(), scope)
    return 0


def share_out_of_scope(predictions: Sequence[Prediction]) -> float | None:
    """The share of the texts that is called out of scope; None where there is no text."""
    return sum(one.out_of_scope for one in predictions) / len(predictions) if predictions else None


def print_scope(console: Console, scope: Mapping[str, float | None]) -> None:
    """The shares that are called out of scope."""
    shares = [f"{share:.1%} of the {name}" for name, share in scope.items() if share is not None]
    console.print(f"called out of scope: {', '.join(shares)}")


def check_errors_file(errors: Path, data: Iterable[Path]) -> None:
    """Raise an OutputError where the file of wrong answers cannot be written, or is something's place."""
    check_file("--errors", errors)
    if errors.exists() and any(path.exists() and errors.samefile(path) for path in data):
        raise OutputError(f"--errors {errors} is the --data file, which it would replace: name another")


def tally_of(labels: Sequence[str], examples: Examples, predictions: Sequence[Prediction]) -> Tally:
    """True against predicted; a true label that the model doesn't know has a row of its own, all of it wrong."""
    every = [*labels, *sorted(examples.label_counts.keys() - set(labels))]
    if any(prediction.labels is not None for prediction in predictions):
        return LabelSets.of(every, examples.label_lists, [prediction.labels or () for prediction in predictions])
    return Confusion.of(every, [label for (label,) in examples.label_lists], [one.label for one in predictions])


def errors_csv(examples: Examples, predictions: Sequence[Prediction]) -> bytes:
    """The wrong answers as CSV: line, text, label, predicted, score; the most confident first.

    Of several files the line is FILE:LINE.
    """
    places = examples.lines if len(examples.sources) < 2 else [examples.place(row) for row in range(len(examples))]
    answers = zip(places, examples.texts, examples.labels, predictions, strict=True)
    wrong = [answer for answer in answers if not _is_right(answer[2], answer[3])]
    rows = (
        (line, text, *map(_shown, (label, _given(prediction))), prediction.score)
        for line, text, label, prediction in sorted(wrong, key=lambda answer: -answer[3].score)
    )
    return to_csv(("line", "text", "label", "predicted", "score"), rows)


def is_best_right(labels: Sequence[str], prediction: Prediction) -> bool:
    """Whether a text has the label that is the most probable one."""
    return prediction.label in labels


def _given(prediction: Prediction) -> Labels:
    return prediction.label if prediction.labels is None else prediction.labels


def _is_right(labels: Labels, prediction: Prediction) -> bool:
    given = _given(prediction)
    sets = [{one} if isinstance(one, str) else set(one) for one in (labels, given)]
    return sets[0] == sets[1]


def _shown(labels: Labels) -> str:
    return labels if isinstance(labels, str) else json.dumps(labels, ensure_ascii=False)


def print_tables(console: Console, tally: Tally, known: Sequence[str]) -> None:
    """Accuracy, macro averages, the classes, and the confusion matrix."""
    values = tally.to_json()
    unknown = [label for label in tally.labels if label not in known]
    if unknown:
        warn(console, f"labels that the model does not know, all counted as wrong: {unknown}")
    several = isinstance(tally, LabelSets)
    told = f"texts {values['texts']:,}  {'exact match' if several else 'accuracy'} {values['accuracy']:.4f}"
    console.print(told + (f"  micro F1 {values['micro_f1']:.4f}" if several else ""))
    classes = Table("label", "precision", "recall", "F1", "texts")
    for label, row in values["per_class"].items():
        classes.add_row(label, *(f"{row[name]:.4f}" for name in ("precision", "recall", "f1")), f"{row['texts']:,}")
    classes.add_section()
    classes.add_row("macro", *(f"{values[f'macro_{name}']:.4f}" for name in ("precision", "recall", "f1")), "")
    console.print(classes)
    if isinstance(tally, Confusion):
        _print_matrix(console, tally)


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
