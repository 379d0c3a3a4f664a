"""Checks of labels: how many texts each has, and which seem to be one."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from training.audit_findings import Finding, Part
from training.audit_private import safe

FEW, SKEWED = 5, 20
LEAST_LENGTH, RARER = 5, 0.2
"""Of a label that may be a typo: its characters, and how often it is there beside the other."""
MOST_LABELS = 2000
"""Whose pairs are compared."""


def check_labels(parts: Sequence[Part], most: int) -> Iterator[Finding]:
    """Rare and skewed classes, twins; labels of the other parts that nothing can learn."""
    part, *others = parts
    counts = label_counts([part])
    for other in others:
        yield from _unseen(other, counts, most)
    few = [label for label, count in counts.items() if count < FEW]
    if few:
        rows = [row for row, labels in enumerate(part.labels) if any(counts[label] < FEW for label in labels)]
        told = ", ".join(repr(safe(label)) for label in few[:most]) + " …" * (len(few) > most)
        yield Finding(
            name="rare-labels", severity="medium", count=len(few), of=len(counts),
            what=f"{len(few):,} of {len(counts):,} labels have fewer than {FEW} texts: {told}",
            advice="give them more texts, or join them with others", examples=part.examples(rows, most),
        )  # fmt: skip
    if counts and max(counts.values()) > SKEWED * min(counts.values()):
        (first, many), (last, little) = counts.most_common()[0], counts.most_common()[-1]
        yield Finding(
            name="skewed", severity="low", count=many, of=len(part),
            what=f"{safe(first)!r} has {many:,} texts, {safe(last)!r} {little:,}",
            advice="--class-weights balanced, --sampling sqrt, --select-by macro-f1 where the rare ones matter",
        )  # fmt: skip
    if twins := label_twins(counts):
        told = "; ".join(
            f"{safe(first)!r} ({counts[first]:,}) and {safe(other)!r} ({counts[other]:,})"
            for first, other in twins[:most]
        )
        rows = [row for row, labels in enumerate(part.labels) if any(other in labels for _, other in twins)]
        yield Finding(
            name="label-twins", severity="high", count=len(twins), of=len(counts),
            what=f"{len(twins):,} pairs of labels differ in case, space or a letter: {told}",
            advice="if they are one label, write it one way; --fix does it where case or space is all that differs",
            examples=part.examples(rows, most), details={"pairs": [[*map(safe, pair)] for pair in twins]},
        )  # fmt: skip


def _unseen(part: Part, known: Counter[str], most: int) -> Iterator[Finding]:
    counts = label_counts([part])
    if not (unseen := {label: count for label, count in counts.items() if label not in known}):
        return
    rows = [row for row, labels in enumerate(part.labels) if not unseen.keys().isdisjoint(labels)]
    told = ", ".join(f"{safe(label)!r} ({count:,})" for label, count in list(unseen.items())[:most])
    yield Finding(
        name=f"unseen-labels-{part.name}", severity="high", count=len(rows), of=len(part),
        what=f"{len(unseen):,} of {len(counts):,} labels of {part.name} are not in train: {told}",
        advice="write them as train does, or give train such texts: no model can answer with them",
        examples=part.examples(rows, most),
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


def one_spelling(counts: Counter[str]) -> dict[str, str]:
    """What a label is written as most often, for those that case, space, _ and - alone tell from it."""
    return {label: group[0] for group in same_but_for_case(counts) for label in group[1:]}


def label_counts(parts: Iterable[Part]) -> Counter[str]:
    """How many texts of all parts have each label."""
    return Counter(label for part in parts for labels in part.labels for label in labels)


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
