"""Checks of each text by itself: length, characters, scripts, markup, keys, personal data."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from training.audit_findings import Finding, Part, texts
from training.audit_private import ODD, personal_in, secrets_in

SHORT, LONG = 2, 20_000
"""Characters, below and above which a text is told of."""
TOKEN = re.compile(r"\w+|[^\w\s]")
"""As the default tokenizer splits a text."""
HTML = re.compile(
    r"</?(?:a|b|br|div|em|font|h[1-6]|hr|i|img|li|ol|p|script|span|strong|table|td|tr|u|ul)\b[^<>]*>|&(?:amp|apos|gt|lt|nbsp|quot|#x?[0-9a-fA-F]+);",
    re.I,
)
MOJIBAKE = re.compile("Ã[\u0080-\u00bf©¨ªº¼½¾]|â€[™œ\u009d“”˜¢¦“]|Â[\u00a0-\u00bf]|ï»¿")
SCRIPTS = {
    "Latin": "A-Za-z\u00c0-\u024f", "Greek": "\u0370-\u03ff", "Cyrillic": "\u0400-\u052f", "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff", "Devanagari": "\u0900-\u097f", "Thai": "\u0e00-\u0e7f", "Hangul": "\uac00-\ud7af",
    "Kana": "\u3040-\u30ff", "Han": "\u4e00-\u9fff",
}  # fmt: skip
SCRIPT = {name: re.compile(f"[{span}]") for name, span in SCRIPTS.items()}
OTHER_SCRIPT = re.compile("[\u0370-\u1fff\u2c00-\uffef]")


def check_texts(part: Part, *, max_length: int, most: int) -> Iterator[Finding]:
    """Every check of texts by themselves; a finding for each that found something."""
    yield from _lengths(part, max_length, most)
    for name, severity, what, advice, found in (
        ("html", "medium", "have markup or entities of HTML", "strip the markup, or train on texts as they will come",
         HTML.search),
        ("mojibake", "medium", "were read in a wrong encoding once (Ã© for é)", "read the source again by its own",
         MOJIBAKE.search),
        ("characters", "low", "have control, replacement, invisible or private characters", "remove or replace them",
         ODD.search),
    ):  # fmt: skip
        yield from _matching(part, name, severity, what, advice, found, most)
    yield from _masked(
        part, "secrets", "high", "seem to hold keys", "remove them, and make the keys invalid", secrets_in, most
    )
    yield from _masked(
        part, "personal-data", "medium", "seem to hold personal data", "mask it, or be sure that you may keep it",
        personal_in, most,
    )  # fmt: skip
    yield from _scripts(part, most)


def _finding(part: Part, name: str, severity: str, rows: Sequence[int], what: str, advice: str, most: int) -> Finding:
    return Finding(
        name=name, severity=severity, count=len(rows), of=len(part), what=f"{texts(len(rows))} of {part.name} {what}",
        advice=advice, examples=part.examples(rows, most),
    )  # fmt: skip


def _lengths(part: Part, max_length: int, most: int) -> Iterator[Finding]:
    sizes = [len(text.strip()) for text in part.texts]
    blank = [row for row, size in enumerate(sizes) if not size]
    short = [row for row, size in enumerate(sizes) if 0 < size < SHORT]
    long = [row for row, size in enumerate(sizes) if size > LONG]
    cut = [row for row, size in enumerate(sizes) if size > max_length and has_more_tokens(part.texts[row], max_length)]
    found = (
        ("blank", "medium", blank, "are blank", "drop them: training does"),
        ("short", "low", short, f"have fewer than {SHORT} characters", "see whether a label can be told from them"),
        ("long", "low", long, f"have more than {LONG:,} characters", "is a quote left open, or a document a text?"),
        (
            "truncated",
            "low",
            cut,
            f"have more than {max_length} tokens: the rest is not read",
            "--max-length reads more",
        ),
    )
    for name, severity, rows, what, advice in found:
        if rows:
            yield _finding(part, name, severity, rows, what, advice, most)


def has_more_tokens(text: str, limit: int) -> bool:
    """Whether a text has more; its words are counted first, which takes a fifth of the time."""
    return len(text.split()) > limit or len(TOKEN.findall(text)) > limit


def _matching(
    part: Part, name: str, severity: str, what: str, advice: str, found: Callable[[str], object], most: int
) -> Iterator[Finding]:
    rows = [row for row, text in enumerate(part.texts) if found(text)]
    if rows:
        yield _finding(part, name, severity, rows, what, advice, most)


def _masked(
    part: Part,
    name: str,
    severity: str,
    what: str,
    advice: str,
    find: Callable[[str], list[tuple[str, str]]],
    most: int,
) -> Iterator[Finding]:
    """What was found is never shown whole."""
    found = {row: hits for row, text in enumerate(part.texts) if (hits := find(text))}
    if not found:
        return
    kinds = Counter(kind for hits in found.values() for kind in {kind for kind, _ in hits})
    told = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
    examples = [
        part.example(row, ", ".join(sorted({kind for kind, _ in hits}))) for row, hits in list(found.items())[:most]
    ]
    yield Finding(
        name=name, severity=severity, count=len(found), of=len(part),
        what=f"{texts(len(found))} of {part.name} {what}: {told}", advice=advice, examples=examples,
        details=dict(kinds),
    )  # fmt: skip


def script_of(text: str) -> str:
    """The script of most of its letters; empty where it has none that is known."""
    if not OTHER_SCRIPT.search(text):
        return "Latin" if SCRIPT["Latin"].search(text) else ""
    counts = {name: len(pattern.findall(text)) for name, pattern in SCRIPT.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else ""


def _scripts(part: Part, most: int) -> Iterator[Finding]:
    scripts = [script_of(text) for text in part.texts]
    counts = Counter(one for one in scripts if one)
    if len(counts) < 2:
        return
    main = counts.most_common(1)[0][0]
    rows = [row for row, one in enumerate(scripts) if one and one != main]
    told = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
    yield Finding(
        name="scripts", severity="low", count=len(rows), of=len(part), what=f"texts of {part.name} are in {told}",
        advice="are all of them languages that the model is for?", examples=part.examples(rows, most),
        details=dict(counts),
    )  # fmt: skip
