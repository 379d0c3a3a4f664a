"""Checks of texts beside each other: duplicates, contradictions, leaks; the same but for case, width and space."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from training.audit_findings import Example, Finding, Part, texts
from training.audit_private import safe, without
from training.audit_texts import TOKEN


def normalised(text: str) -> str:
    """By NFKC, case and space: what the model reads alike is alike."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def check_copies(parts: Sequence[Part], most: int) -> Iterator[Finding]:
    """Duplicates and contradictions in the first part, which is train; what of the others stands in it."""
    train, *others = parts
    groups = grouped(train)
    copies = [rows for rows in groups.values() if len(rows) > 1]
    if again := [row for rows in copies for row in rows[1:]]:
        exact = sum(len(rows) - len({train.texts[row] for row in rows}) for rows in copies)
        yield Finding(
            name="duplicates", severity="medium", count=len(again), of=len(train),
            what=f"{texts(len(again))} of {train.name} stand there before, {exact:,} of them to the letter",
            advice="each counts as often as it stands there; --fix keeps the first",
            examples=[train.example(row, f"as {train.places[rows[0]]}") for rows in copies[:most] for row in rows[1:2]],
        )  # fmt: skip
    if torn := [rows for rows in copies if len({frozenset(train.labels[row]) for row in rows}) > 1]:
        count = sum(map(len, torn))
        yield Finding(
            name="conflicts", severity="high", count=count, of=len(train),
            what=f"{texts(len(torn))} of {train.name} have different labels where they stand again ({count:,} rows)",
            advice="decide which label is right: nothing can learn both",
            examples=[train.example(row, _labels(train, rows)) for rows in torn[:most] for row in rows[:1]],
        )  # fmt: skip
    for part in others:
        if leaks := [(row, groups[key][0]) for row, key in enumerate(map(normalised, part.texts)) if key in groups]:
            yield Finding(
                name=f"leaks-{part.name}", severity="high", count=len(leaks), of=len(part),
                what=f"{texts(len(leaks))} of {part.name} stand in {train.name}",
                advice=f"take them out of {train.name} (--fix does): the score of {part.name} flatters otherwise",
                examples=[part.example(row, f"as {train.places[twin]}") for row, twin in leaks[:most]],
            )  # fmt: skip
        yield from _unknown(train, part, most)


def grouped(part: Part) -> dict[str, list[int]]:
    """The rows of each normalised text; blank ones left out."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(part.texts):
        if key := normalised(text):
            groups[key].append(row)
    return groups


def _labels(part: Part, rows: Sequence[int]) -> str:
    return " | ".join(sorted({", ".join(part.labels[row]) or "none" for row in rows}))


def _tokens(text: str) -> list[str]:
    """None of a key or of personal data, which a part of would show."""
    return TOKEN.findall(without(text, lambda _: " ").casefold())


def _unknown(train: Part, part: Part, most: int) -> Iterator[Finding]:
    known = {token for text in train.texts for token in _tokens(text)}
    counts = Counter(token for text in part.texts for token in _tokens(text))
    total = sum(counts.values())
    unknown = Counter({token: count for token, count in counts.items() if token not in known})
    if total and (missing := sum(unknown.values())):
        shown = [(safe(token), count) for token, count in unknown.most_common(most)]
        words = ", ".join(f"{token!r} {count:,}" for token, count in shown)
        yield Finding(
            name=f"unknown-{part.name}", severity="medium" if missing > total / 10 else "low", count=missing, of=total,
            what=f"{missing / total:.1%} of the tokens of {part.name} are not in {train.name}, most often {words}",
            advice="many mean other texts than those that were labelled: label some of them",
            examples=[Example(place="", text=token, labels="") for token, _ in shown],
        )  # fmt: skip
