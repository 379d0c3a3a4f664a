"""A cleaned copy of training texts, and a list of what was done; the files that were read stay as they are."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from nlp_app.delimited import to_csv
from nlp_app.errors import ConfigError, OutputError
from nlp_app.folder import write_file
from training.audit_copies import normalised
from training.audit_findings import Part
from training.audit_labels import label_counts, one_spelling
from training.audit_private import safe
from training.writable import check_file

SEPARATORS = "|", ";", ",", "/", "~", "||", ";;", "|~|"
"""Between the labels of a text that has several, in the copy: the first that no label has."""


def check_fix(path: Path, *, overwrite: bool) -> None:
    """Raise an error where the copy cannot be written, or would take the place of a file."""
    if path.suffix.lower() != ".csv":
        raise ConfigError(f"--fix {path} must end in .csv, which is what it writes")
    for one in (path, list_of(path)):
        check_file("--fix", one)
        if one.exists() and not overwrite:
            raise OutputError(f"--fix {one} exists: name another file, or replace it with --overwrite")


def list_of(path: Path) -> Path:
    """Where it is said what was done."""
    return path.with_suffix(".fixes.csv")


def write_fixed(path: Path, parts: Sequence[Part], columns: tuple[str, str] = ("text", "label")) -> str:
    """Write the copy, with these columns of text and label, and the list; gives a sentence about them."""
    train, *others = parts
    rows, fixes = fixed(train, others)
    multi = any(len(labels) != 1 for labels in train.labels)
    separator = separator_for(label for labels in train.labels for label in labels) if multi else ""
    write_file(path.resolve(), to_csv(columns, [(text, separator.join(labels)) for text, labels in rows]))
    write_file(
        list_of(path).resolve(),
        to_csv(("place", "what", "why", "text"), [(*told, safe(text)) for *told, text in fixes]),
    )
    told = (
        ", ".join(f"{count:,} {what}" for what, count in Counter(what for _, what, _, _ in fixes).items()) or "nothing"
    )
    hint = f" (--label-separator '{separator}')" if multi else ""
    return (
        f"{len(rows):,} of {len(train):,} texts are in {path}{hint}, what was done in {list_of(path)}: {told}; "
        "contradictions, likely label errors, near duplicates and what stands in the texts are for you to judge"
    )


def separator_for(labels: Iterable[str]) -> str:
    """What no label has.

    Raises:
        OutputError: every one is in a label.
    """
    distinct = set(labels)
    for one in SEPARATORS:
        if not any(one in label for label in distinct):
            return one
    raise OutputError(f"--fix separates the labels of a text by one of {' '.join(SEPARATORS)}, but labels have each")


def fixed(
    train: Part, others: Sequence[Part]
) -> tuple[list[tuple[str, tuple[str, ...]]], list[tuple[str, str, str, str]]]:
    """The rows that stay, and for each change its place, what was done, why, and the text.

    A blank text, one that stands in another part, and one that stands there before with the same labels, go. Labels
    that case or space alone tell apart become the most frequent of them in all parts. What was cleaned once is not
    changed again.
    """
    one_way = one_spelling(label_counts([train, *others]))
    elsewhere = {key: part.places[row] for part in others for row, key in enumerate(map(normalised, part.texts))}
    rows, fixes = [], []
    seen: dict[tuple[str, frozenset[str]], str] = {}
    for text, given, place in zip(train.texts, train.labels, train.places, strict=True):
        labels = tuple(dict.fromkeys(one_way.get(label, label) for label in given))
        key = normalised(text)
        same = (key, frozenset(labels))
        if not key:
            fixes.append((place, "dropped", "it is blank", text))
        elif key in elsewhere:
            fixes.append((place, "dropped", f"it stands at {elsewhere[key]} too, which measures", text))
        elif same in seen:
            fixes.append((place, "dropped", f"it stands at {seen[same]} before, with the same label", text))
        else:
            if labels != given:
                fixes.append((place, "relabelled", f"{', '.join(given)} is written {', '.join(labels)}", text))
            seen[same] = place
            rows.append((text, labels))
    return rows, fixes
