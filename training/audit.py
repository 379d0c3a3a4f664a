"""`python -m training.audit FILE…`: what is wrong with labelled texts, before a model is trained on them."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from nlp_app.errors import ConfigError, DataError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

from nlp_app.folder import write_file
from nlp_app.recoding import check_encoding
from training.audit_copies import check_copies
from training.audit_errors import check_errors
from training.audit_findings import SEVERITIES, Finding, Part
from training.audit_fix import check_fix, list_of, write_fixed
from training.audit_labels import check_labels
from training.audit_near import check_near
from training.audit_report import VERSION, html_page, print_findings
from training.audit_texts import check_texts
from training.console import make_console, warn
from training.data import Examples, read_examples
from training.flags import filled
from training.sources import Given
from training.writable import check_apart, check_file

OTHERS = ("validation", "test")


def main() -> int:
    """Audit as the command line says; gives the exit code, which is 0 whatever was found."""
    options = read_options()
    for name, value, least in (("--max-length", options.max_length, 1), ("--examples", options.examples, 0)):
        if value < least:
            raise ConfigError(f"{name} is {value}, but must be {least} or more")
    check_encoding(options.encoding)
    given: list[Given | None] = [tuple(options.train), *(_words(getattr(options, name)) for name in OTHERS)]
    for flag, path in (("--json", options.json), ("--html", options.html)):
        if path is not None:
            check_file(flag, path)
    if options.fix is not None:
        check_fix(options.fix, overwrite=options.overwrite)
    examples = {
        name: read(one, options, name) for name, one in zip(("train", *OTHERS), given, strict=True) if one is not None
    }
    copies = {} if options.fix is None else {"--fix": options.fix, "the list of --fix": list_of(options.fix)}
    outputs = {"--json": options.json, "--html": options.html, **copies}
    check_apart(outputs, [path for one in examples.values() for source in one.sources for path in source.files()])
    parts = [part_of(name, one) for name, one in examples.items()]
    findings, left_out = audit(parts, quick=options.quick, max_length=options.max_length, most=options.examples)
    console = make_console()
    print_findings(console, parts, findings)
    for reason in left_out:
        warn(console, f"not checked: {reason}")
    told = {
        "version": VERSION,
        "texts": {part.name: len(part) for part in parts},
        "findings": [one.to_json() for one in findings],
        "not_checked": left_out,
    }
    if options.json is not None:
        write_file(options.json.resolve(), (json.dumps(told, ensure_ascii=False, indent=2) + "\n").encode())
    if options.html is not None:
        write_file(options.html.resolve(), html_page(parts, findings, left_out).encode())
        console.print(f"the page is in {options.html}", highlight=False)
    if options.fix is not None:
        console.print(write_fixed(options.fix, parts, _columns(options)), highlight=False)
    return 0


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.audit", description=__doc__.splitlines()[0])
    parser.add_argument(
        "train",
        nargs="+",
        metavar="FILE",
        type=filled("FILE"),
        help="labelled texts: what --train of training.run takes",
    )
    for name in OTHERS:
        parser.add_argument(f"--{name}", nargs="+", type=filled(f"--{name}"), help=f"the same, of the {name} part")
    parser.add_argument("--query", type=filled("--query"), help="what to read of a database: SELECT text, label FROM …")
    for name in OTHERS:
        flag = f"--{name}-query"
        parser.add_argument(flag, type=filled(flag), help=f"the same, of the database of --{name}")
    parser.add_argument("--encoding", type=filled("--encoding"), help="of files of text, such as cp1251")
    parser.add_argument("--text-column", nargs="+", action="extend", help="column with the text")
    parser.add_argument("--label-column", help="column with the label, or with lists of labels")
    parser.add_argument(
        "--label-separator", type=filled("--label-separator"), help="what stands between several labels"
    )
    parser.add_argument("--max-length", type=int, default=512, help="tokens that the model will read (default: 512)")
    parser.add_argument("--quick", action="store_true", help="leave out near duplicates and likely label errors")
    parser.add_argument("--examples", type=int, default=10, help="shown of each finding, at most (default: 10)")
    parser.add_argument("--json", type=filled("--json", Path), help="write the findings to this file")
    parser.add_argument("--html", type=filled("--html", Path), help="write a page with examples to this file")
    parser.add_argument("--fix", type=filled("--fix", Path), help="write a cleaned copy of FILE to this .csv file")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --fix")
    return parser.parse_args()


def _columns(options: argparse.Namespace) -> tuple[str, str]:
    """Of the copy: as they were called, where they were named; several columns of text are one there."""
    named = options.text_column or []
    return named[0] if len(named) == 1 else "text", options.label_column or "label"


def _words(given: list[str] | None) -> Given | None:
    return None if given is None else tuple(given)


def read(given: Given, options: argparse.Namespace, split: str) -> Examples:
    """The texts of a part."""
    return read_examples(
        given,
        text_columns=options.text_column or (),
        label_column=options.label_column,
        separator=options.label_separator,
        encoding=options.encoding,
        query={"train": options.query, "validation": options.validation_query, "test": options.test_query}[split],
        split=split,
    )


def part_of(name: str, examples: Examples) -> Part:
    """What is audited of examples."""
    places = [examples.place(row) for row in range(len(examples))]
    return Part(name=name, texts=examples.texts, labels=examples.label_lists, places=places)


def audit(
    parts: Sequence[Part], *, quick: bool = False, max_length: int = 512, most: int = 10, seed: int = 0
) -> tuple[list[Finding], list[str]]:
    """Every check, the worst findings first.

    Args:
        parts: train, then those that measure it.
        quick: without near duplicates and likely label errors, which take most of the time.
        max_length: tokens that the model will read.
        most: examples of a finding.
        seed: of the folds.

    Returns:
        What was found, and which checks could not be made, and why.
    """
    findings = list(quick_checks(parts, max_length=max_length, most=most))
    left_out = []
    slow: list[Callable[[], Iterator[Finding]]] = [
        lambda: check_near(parts, most),
        lambda: check_errors(parts[0], seed=seed, most=most),
    ]
    for check in [] if quick else slow:
        try:
            findings += check()
        except DataError as error:
            left_out.append(str(error))
    return sorted(findings, key=lambda one: SEVERITIES.index(one.severity)), left_out


def quick_checks(parts: Sequence[Part], *, max_length: int, most: int) -> Iterator[Finding]:
    """Those that take a moment."""
    yield from check_copies(parts, most)
    yield from check_labels(parts, most)
    for part in parts:
        for finding in check_texts(part, max_length=max_length, most=most):
            yield finding if part is parts[0] else replace(finding, name=f"{finding.name}-{part.name}")


if __name__ == "__main__":
    run_command(main)
