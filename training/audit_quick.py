"""The audit's quick form, at the start of training: a line for each thing that may spoil the model, else none."""

from collections import Counter

from training.audit_copies import grouped, normalised
from training.audit_findings import Part
from training.audit_labels import label_twins, same_but_for_case
from training.audit_texts import HTML, MOJIBAKE
from training.data import Examples

MANY = 0.02
"""Share of the rows, above which duplicates and markup are told of."""
SHOWN = 3


def quick_warnings(train: Examples, validation: Examples | None = None) -> list[str]:
    """What to warn of before training; labels that case or space alone tell apart are told of by data.odd_labels.

    Args:
        train: all rows of --train.
        validation: of --validation, where that is a file of its own.
    """
    found = [*_copies(train, validation), *_labels(train), *_texts(train)]
    return [*found, "python -m training.audit shows where, and more (--html FILE)"] if found else []


def _copies(train: Examples, validation: Examples | None) -> list[str]:
    part = Part(name="train", texts=train.texts, labels=train.label_lists, places=())
    groups = grouped(part)
    copies = [rows for rows in groups.values() if len(rows) > 1]
    again, told = sum(map(len, copies)) - len(copies), []
    if torn := [rows for rows in copies if len({frozenset(part.labels[row]) for row in rows}) > 1]:
        places = " and ".join(train.place(row) for row in torn[0][:2])
        told.append(f"{train.path}: {len(torn):,} texts stand there again with another label, as at {places}")
    if again > MANY * len(train):
        told.append(f"{train.path}: {again:,} of {len(train):,} texts stand there before, but for case and space")
    if validation is not None and (leaks := sum(normalised(text) in groups for text in validation.texts)):
        told.append(f"{validation.path}: {leaks:,} of {len(validation):,} texts stand in {train.path}: scores flatter")
    return told


def _labels(train: Examples) -> list[str]:
    counts: Counter[str] = train.label_counts
    known = {label for group in same_but_for_case(counts) for label in group}
    typos = [pair for pair in label_twins(counts) if not known.issuperset(pair)]
    shown = ", ".join(f"{first!r} and {other!r}" for first, other in typos[:SHOWN])
    more = f" and {len(typos) - SHOWN:,} more" if len(typos) > SHOWN else ""
    return [f"{train.path}: labels that differ by a letter: {shown}{more}"] if typos else []


def _texts(train: Examples) -> list[str]:
    told = []
    if (markup := sum(1 for text in train.texts if HTML.search(text))) > MANY * len(train):
        told.append(f"{train.path}: {markup:,} texts have markup of HTML")
    if wrong := sum(1 for text in train.texts if MOJIBAKE.search(text)):
        told.append(f"{train.path}: {wrong:,} texts were read in a wrong encoding once (Ã© for é)")
    return told
