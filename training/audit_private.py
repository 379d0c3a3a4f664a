"""What a text holds that must not be shown: keys, personal data, control characters."""

import re
from collections.abc import Callable

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


def safe(text: str) -> str:
    """A text as it may be shown: keys and personal data masked, control characters escaped."""
    return ODD.sub(lambda found: f"\\x{ord(found[0]):02x}", without(text, masked))


def without(text: str, instead: Callable[[str], str]) -> str:
    """A text with something else in place of each key and of personal data."""
    for _, hit in (*secrets_in(text), *personal_in(text)):
        text = text.replace(hit, instead(hit))
    return text


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
