"""Checks of labels: how many texts each has, and which seem to be one."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations

from training.audit_findings import Finding, Part

FEW, SKEWED = 5, 20
LEAST_LENGTH, RARER = 5, 0.2
"""Of a label that may be a typo: its characters, and how often it is there beside the other."""
MOST_LABELS = 2000
"""Whose pairs are compared."""


def check_labels(part: Part, most: int) -> Iterator[Finding]:
    """Rare and skewed classes, twins."""
    counts = Counter(label for labels in part.labels for label in labels)
    few = [label for label, count in counts.items() if count < FEW]
    if few:
        rows = [row for row, labels in enumerate(part.labels) if any(counts[label] < FEW for label in labels)]
        shown = ", ".join(repr(label) for label in few[:most]) + " …" * (len(few) > most)
        yield Finding(
            name="rare-labels", severity="medium", count=len(few), of=len(counts),
            what=f"{len(few):,} of {len(counts):,} labels have fewer than {FEW} texts: {shown}",
            advice="give them more texts, or join them with others", examples=part.examples(rows, most),
        )  # fmt: skip
    if counts and max(counts.values()) > SKEWED * min(counts.values()):
        (first, many), (last, little) = counts.most_common()[0], counts.most_common()[-1]
        yield Finding(
            name="skewed", severity="low", count=many, of=len(part),
            what=f"{first!r} has {many:,} texts, {last!r} {little:,}",
            advice="--class-weights balanced, --sampling sqrt, --select-by macro-f1 where the rare ones matter",
        )  # fmt: skip
    if twins := label_twins(counts):
        told = "; ".join(
            f"{first!r} ({counts[first]:,}) and {other!r} ({counts[other]:,})" for first, other in twins[:most]
        )
        rows = [row for row, labels in enumerate(part.labels) if any(other in labels for _, other in twins)]
        yield Finding(
            name="label-twins", severity="high", count=len(twins), of=len(counts),
            what=f"{len(twins):,} pairs of labels differ in case, space or a letter: {told}",
            advice="if they are one label, write it one way; --fix does it where case or space is all that differs",
            examples=part.examples(rows, most), details={"pairs": [list(pair) for pair in twins]},
        )  # fmt: skip


def label_twins(counts: Counter[str]) -> list[tuple[str, str]]:
    """Pairs that may be one label, the more frequent first."""
    found = [(group[0], other) for group in same_but_for_case(counts) for other in group[1:]]
    if len(counts) <= MOST_LABELS:
        paired = {frozenset(pair) for pair in found}
        ordered = [label for label, _ in counts.most_common()]
        found += [
            (first, other)
            for first, other in combinations(ordered, 2)
            if frozenset((first, other)) not in paired
            and counts[other] <= RARER * counts[first]
            and is_typo(first, other)
        ]
    return found


def same_but_for_case(counts: Counter[str]) -> list[list[str]]:
    """Groups that case, space, _ and - alone tell apart, each from its most frequent label on."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label, _ in counts.most_common():
        alike["".join(one for one in label.casefold() if not one.isspace() and one not in "_-")].append(label)
    return [group for group in alike.values() if len(group) > 1]


def is_typo(first: str, other: str) -> bool:
    """Whether one letter was changed, left out, added, or swapped with its neighbour; never a digit."""
    if min(len(first), len(other)) < LEAST_LENGTH or abs(len(first) - len(other)) > 1:
        return False
    start = next(
        (at for at, (a, b) in enumerate(zip(first, other, strict=False)) if a != b), min(len(first), len(other))
    )
    a, b = first[start:], other[start:]
    end = next((at for at, (x, y) in enumerate(zip(a[::-1], b[::-1], strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[: len(a) - end], b[: len(b) - end]
    one_letter = len(a) <= 1 and len(b) <= 1
    swapped = len(a) == len(b) == 2 and a == b[::-1]
    return (one_letter or swapped) and not any(one.isdigit() for one in a + b)
