"""Checks of each text by itself: length, characters, scripts, markup, keys, personal data."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from training.audit_findings import Finding, Part, texts

SHORT, LONG = 2, 20_000
"""Characters, below and above which a text is told of."""
TOKEN = re.compile(r"\w+|[^\w\s]")
HTML = re.compile(
    r"</?(?:a|b|br|div|em|font|h[1-6]|hr|i|img|li|ol|p|script|span|strong|table|td|tr|u|ul)\b[^<>]*>|&(?:amp|apos|gt|lt|nbsp|quot|#x?[0-9a-fA-F]+);",
    re.I,
)
MOJIBAKE = re.compile("Ã[\u0080-\u00bf©¨ªº¼½¾]|â€[™œ\u009d“”˜¢¦“]|Â[\u00a0-\u00bf]|ï»¿")
ODD = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u0084\u0086-\u009f\ufffd\u200b\u200e\u200f\u2060\ufeff\ue000-\uf8ff]"
)
SECRETS = {
    "a private key": re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[\s\S]*-----END [A-Z ]*PRIVATE KEY-----|[\s\S]*)"
    ),
    "a key of AWS": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}\b"),
    "a token of Slack": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a key of Google": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a secret key": re.compile(r"\bsk[-_](?:live_|test_|proj-|ant-)?[A-Za-z0-9_-]{20,}"),
    "a signed token": re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
}
ANY_SECRET = re.compile(r"PRIVATE KEY|AKIA|ASIA|gh[pousr]_|xox[abprs]-|AIza|sk[-_]|eyJ")
"""What each of them holds: one look for all."""
EMAIL = re.compile(r"\b[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
PHONE = re.compile(
    r"(?<![\w.])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4})(?![\w.])"
)
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
CARD = re.compile(r"(?<![\d.])(?:\d[ -]?){12,18}\d(?![\d.])")
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


def safe(text: str) -> str:
    """A text as it may be shown: keys and personal data masked, control characters escaped."""
    for _, hit in (*secrets_in(text), *personal_in(text)):
        text = text.replace(hit, masked(hit))
    return ODD.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def tokens_of(text: str) -> list[str]:
    """As the default tokenizer splits it, keys and personal data left out."""
    for _, hit in (*secrets_in(text), *personal_in(text)):
        text = text.replace(hit, " ")
    return TOKEN.findall(text.casefold())


def masked(hit: str) -> str:
    """At most its first three characters."""
    return hit[: min(3, len(hit) // 4)] + "***"


def secrets_in(text: str) -> list[tuple[str, str]]:
    """Kinds of keys, and the keys."""
    if not ANY_SECRET.search(text):
        return []
    return [(kind, hit[0]) for kind, pattern in SECRETS.items() for hit in pattern.finditer(text)]


def personal_in(text: str) -> list[tuple[str, str]]:
    """Kinds of personal data, and the data."""
    found = [("e-mail", hit[0]) for hit in EMAIL.finditer(text)] if "@" in text else []
    if sum(map(text.count, "0123456789")) < 7:
        return found
    found += [("IBAN", hit[0]) for hit in IBAN.finditer(text) if is_iban(hit[0])]
    found += [("card number", hit[0]) for hit in CARD.finditer(text) if is_card(hit[0])]
    taken = " ".join(hit for _, hit in found)
    return found + [("phone number", hit[0]) for hit in PHONE.finditer(text) if hit[0] not in taken]


def is_card(number: str) -> bool:
    """Whether its last digit is the one that Luhn's rule asks for (ISO/IEC 7812-1)."""
    digits = [int(one) for one in number if one.isdigit()]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_iban(number: str) -> bool:
    """Whether its check digits are right (ISO 13616: 1 modulo 97)."""
    plain = number.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1


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
