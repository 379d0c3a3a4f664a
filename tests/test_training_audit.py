"""training.audit: what is found, what is not, and nothing of it shown that must not be."""

import csv
import gzip
import html
import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nlp_app.errors import OutputError
from tests.conftest import Refused, write_csv
from training import audit as command
from training.audit import audit, part_of
from training.audit_copies import normalised
from training.audit_findings import Finding, Part
from training.audit_fix import fixed, separator_for
from training.audit_labels import is_typo, label_twins
from training.audit_near import Index, jaccard, runs_of
from training.audit_private import is_card, is_iban, masked, personal_in, secrets_in
from training.audit_quick import quick_warnings
from training.audit_texts import script_of
from training.data import read_examples
from training.options import SAMPLE

DATA = pytest.mark.skipif("NLP_APP_DATA" not in os.environ, reason="NLP_APP_DATA names no folder of sets")
MOODS = ["glad", "sad", "calm", "loud", "shy", "bold", "kind", "mean", "fast", "slow"]
CLEAN = [
    (f"the {animal} number {number} is {mood}", animal)
    for number, mood in enumerate(MOODS)
    for animal in ("horse", "mouse")
]


def part(rows: list[tuple[str, str]], name: str = "train") -> Part:
    texts, labels = [text for text, _ in rows], [(label,) for _, label in rows]
    return Part(name=name, texts=texts, labels=labels, places=[f"{name}.csv:{row + 2}" for row in range(len(rows))])


def found(*parts: Part, **more: Any) -> dict[str, Finding]:
    findings, _ = audit(parts, **{"quick": True, **more})
    return {one.name: one for one in findings}


def test_clean_texts_have_no_finding() -> None:
    assert found(part(CLEAN)) == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (" \t", "blank"),
        ("x", "short"),
        ("word " * 5000, "long"),
        ("a <br /> b", "html"),
        ("fish &amp; chips", "html"),
        ("cafÃ© au lait", "mojibake"),
        ("it\u00e2\u20ac\u2122s", "mojibake"),
        ("zero\u200bwidth", "characters"),
        ("lost \ufffd here", "characters"),
        ("key AKIAIOSFODNN7EXAMPLE", "secrets"),
        ("write to jane.doe@example.com", "personal-data"),
        ("где моя посылка", "scripts"),
        ("one two three four five", "truncated"),
    ],
)
def test_a_text_that_is_odd(text: str, name: str) -> None:
    more = {"max_length": 4} if name == "truncated" else {}
    findings = found(part([*(() if more else CLEAN), (text, "horse")]), **more)
    assert findings[name].count == 1
    assert findings[name].examples[0].place == f"train.csv:{2 if more else 22}"


@pytest.mark.parametrize(
    "text",
    [
        "a < b and b > a",
        "x <3 y",
        "AT&T; and so on",
        "naïve café",
        "Ärger über Öl",
        "tab\there",
        "👍🏽 fine",
        "5 < 6 > 4",
    ],
)
def test_texts_that_are_not_odd(text: str) -> None:
    assert found(part([*CLEAN, (text, "horse")])) == {}


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("call +49 30 1234567", ["phone number"]),
        ("call (555) 123-4567 now", ["phone number"]),
        ("IBAN DE89 3704 0044 0532 0130 00", ["IBAN"]),
        ("card 4111 1111 1111 1111", ["card number"]),
        ("card 4111 1111 1111 1112", []),
        ("order 20240131 of 1000000", []),
        ("version 1.2.3.4567.89", []),
        ("0000000000000000", []),
        ("IBAN DE00 3704 0044 0532 0130 00", []),
        ("a@b and me@home", []),
    ],
)
def test_personal_data(text: str, kinds: list[str]) -> None:
    assert [kind for kind, _ in personal_in(text)] == kinds


def test_numbers_with_check_digits() -> None:
    assert is_card("4111111111111111")
    assert not is_card("4111111111111112")
    assert is_iban("GB29NWBK60161331926819")
    assert not is_iban("GB28NWBK60161331926819")


def test_keys() -> None:
    private = "-----BEGIN RSA PRIVATE KEY-----"
    texts = [private, "ghp_" + "a" * 36, "AIza" + "b" * 35, "sk-proj-" + "c" * 30, "xoxb-1234567890-abc"]
    assert all(len(secrets_in(text)) == 1 for text in texts)
    assert not any(map(secrets_in, ["sk-8 skates", "an AKIA plane", "risk-free-of-charge-and-so-on-and-on"]))


@pytest.mark.parametrize("text", ["Привет, мир", "世界和平"])
def test_scripts(text: str) -> None:
    assert script_of(text) == {"П": "Cyrillic", "世": "Han"}[text[0]]
    assert (script_of("naïve"), script_of("123"), script_of("Привет OK")) == ("Latin", "", "Cyrillic")


@pytest.mark.parametrize(
    ("first", "other", "is_one"),
    [
        ("billing", "biling", True),
        ("billing", "bililng", True),
        ("billing", "billinh", True),
        ("cancel", "cancels", True),
        ("level1", "level2", False),
        ("level1", "level11", False),
        ("cat", "car", False),
        ("billing", "banking", False),
        ("billing", "bllings", False),
    ],
)
def test_typos(first: str, other: str, is_one: bool) -> None:
    assert is_typo(first, other) is is_typo(other, first) is is_one


def test_twins_of_labels() -> None:
    counts = Counter({"billing": 100, "Billing ": 40, "biling": 3, "shipping": 90, "snipping": 80, "bill_ing": 1})
    assert label_twins(counts) == [("billing", "Billing "), ("billing", "bill_ing"), ("billing", "biling")]


def test_duplicates_conflicts_and_leaks() -> None:
    rows = [*CLEAN, ("Straße  A", "horse"), ("STRASSE a", "horse"), (CLEAN[0][0], "mouse")]
    findings = found(part(rows), part([(" strasse A ", "horse"), ("new words", "mouse")], "test"))
    assert (findings["duplicates"].count, findings["conflicts"].count, findings["leaks-test"].count) == (2, 2, 1)
    assert findings["conflicts"].examples[0].why == "horse | mouse"
    assert findings["leaks-test"].examples[0].why == "as train.csv:22"
    assert findings["unknown-test"].count == 2
    assert "conflicts" not in found(part([*CLEAN, CLEAN[0]]))


def test_labels_that_no_model_can_answer_with() -> None:
    finding = found(part(CLEAN), part([("the horse", "Horse"), ("a cow", "cow"), ("x y", "mouse")], "test"))
    told = finding["unseen-labels-test"]
    assert (told.count, told.of) == (2, 3)
    assert "2 of 3 labels of test are not in train: 'Horse' (1), 'cow' (1)" in told.what


def test_a_label_is_written_as_most_texts_of_all_parts_write_it() -> None:
    rows, fixes = fixed(part([("x", "Horse"), ("y", "horse")]), [part([("z", "Horse")], "test")])
    assert rows == [("x", ("Horse",)), ("y", ("Horse",))]
    assert [(place, what) for place, what, *_ in fixes] == [("train.csv:3", "relabelled")]


def test_twins_are_no_label_errors() -> None:
    """The half of the horses is written HORSE, which the baseline can't know."""
    rows = [(f"the {animal} {number} is {mood}", animal) for number in range(8) for mood in MOODS
            for animal in ("horse", "mouse")]  # fmt: skip
    rows = [(text, label.upper() if label == "horse" and number % 4 else label)
            for number, (text, label) in enumerate(rows)]  # fmt: skip
    assert "label-errors" not in found(part(rows), quick=False)


def test_the_same_but_for_case_width_and_space() -> None:
    assert normalised(" Ｆｕｌｌ\u00a0 WIDTH\n") == "full width"


def test_near_duplicates() -> None:
    base = "how do I change the address on my account please"
    rows = [*CLEAN, (base, "horse"), (f"{base}!", "mouse"), (base.replace("please", "today"), "horse")]
    findings, _ = audit([part(rows), part([(f"so {base}", "horse"), (base, "horse")], "test")])
    by_name = {one.name: one for one in findings}
    assert {example.text for example in by_name["near-duplicates"].examples} >= {f"{base}!"}
    assert by_name["near-duplicates"].details["other_label"] >= 1
    assert by_name["near-leaks-test"].count == 1, "the other is a leak to the letter"
    assert jaccard(runs_of(base), runs_of(base.upper())) == 1
    assert jaccard(runs_of(base), runs_of("where is the parcel that you sent to me")) < 0.1
    assert len(runs_of(" ".join(map(str, range(1000))))) < 1000, "an eighth of a long text"


def test_many_texts_of_one_template_are_found_in_time_that_does_not_grow_with_their_square() -> None:
    """A text that is near others, which stand for it, is kept no more than twenty times."""
    index = Index()
    near = [index.add(row, f"your parcel with the number {row:03} has been given to the carrier") for row in range(300)]
    assert sum(twin is not None for twin in near) > 290
    assert len(index._runs) < 40
    assert index.find("your parcel with the number 777 has been given to the carrier") is not None


def test_a_library_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("datasketch", "cleanlab.filter"):
        monkeypatch.setitem(sys.modules, library, None)
    findings, left_out = audit([part([*CLEAN, CLEAN[0]])])
    assert [one.name for one in findings] == ["duplicates"]
    assert [reason.partition(":")[2] for reason in left_out] == [" pip install 'nlp_app[audit]'"] * 2


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["audit", *map(str, arguments)])
    return command.main()


SECRET = "AKIAIOSFODNN7EXAMPLE"


def test_nothing_shows_what_must_stay_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        *CLEAN,
        (f"my key is {SECRET}", "horse"),
        (f"my key is {SECRET}", "horse"),
        (f"\x1b[31m my key is {SECRET}", "mouse"),
        ("mail jane.doe@example.com", "mouse"),
        ("-----BEGIN RSA PRIVATE KEY----- MIIEpAIBAAKCAQEA7bq -----END RSA PRIVATE KEY-----", "mouse"),
        ("it belongs to", "jane.doe@example.com"),
        ("it is like", "\x1b[31mred"),
        ("<script>x</script>", "horse"),
    ]
    path = write_csv(tmp_path / "train.csv", rows)
    test = write_csv(
        tmp_path / "test.csv", [("another sk-proj-abcdefghijklmnopqrstuvwx of jane.doe@example.org", "horse")] * 2
    )
    reports = ("--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    assert run(monkeypatch, path, "--test", test, *reports, "--quick") == 0
    page, told = (tmp_path / "a.html").read_text(), json.loads((tmp_path / "a.json").read_text())
    for shown in (capsys.readouterr().out, page, json.dumps(told)):
        assert SECRET not in shown
        assert "jane.doe" not in shown
        assert "\x1b" not in shown
        assert "MIIEp" not in shown
        assert "qrstuvwx" not in shown
    assert "<script>" not in page
    assert html.escape("<script>x</script>") in page
    assert told["version"] == 1
    assert told["texts"] == {"train": 28, "test": 2}
    names = {"secrets", "personal-data", "html", "duplicates", "characters", "rare-labels", "unknown-test"}
    assert names <= {one["name"] for one in told["findings"]}
    assert all(0 < one["share"] <= 1 and one["examples"] for one in told["findings"])


def test_a_mask_hides_most() -> None:
    assert [masked(hit) for hit in (SECRET, "a@b.co", "abc")] == ["AKI***", "a***", "***"]


def test_the_copy_is_clean_and_the_original_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        *CLEAN,
        *CLEAN[:3],
        (CLEAN[3][0], "horse"),
        ("", "horse"),
        ("a new one", "Horse"),
        ("stands in test", "mouse"),
    ]
    path, test = write_csv(tmp_path / "train.csv", rows), write_csv(tmp_path / "t.csv", [("Stands in  test", "mouse")])
    before, copy = path.read_bytes(), tmp_path / "clean.csv"
    assert run(monkeypatch, path, "--test", test, "--quick", "--fix", copy) == 0
    assert path.read_bytes() == before
    with copy.open(newline="") as file:
        kept = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    assert kept == [*CLEAN, (CLEAN[3][0], "horse"), ("a new one", "horse")]
    with (tmp_path / "clean.fixes.csv").open(newline="") as file:
        fixes = [(row["place"].rpartition(":")[2], row["what"]) for row in csv.DictReader(file)]
    assert fixes == [*((str(line), "dropped") for line in (22, 23, 24, 26)), ("27", "relabelled"), ("28", "dropped")]
    again, nothing = fixed(part(kept), [part([("Stands in  test", "mouse")], "test")])
    assert ([(text, labels[0]) for text, labels in again], nothing) == (kept, [])
    assert read_examples(copy).texts == [text for text, _ in kept]


def test_the_copy_has_the_columns_that_were_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, copy = write_csv(tmp_path / "a.csv", CLEAN, ("body", "kind")), tmp_path / "c.csv"
    named = ("--text-column", "body", "--label-column", "kind")
    assert run(monkeypatch, path, *named, "--quick", "--fix", copy) == 0
    assert read_examples(copy, text_columns=["body"], label_column="kind").texts == [text for text, _ in CLEAN]


def test_several_labels_in_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"t {number}", "labels": ["a", "b"][: number % 3]}) + "\n" for number in range(9))
    )
    assert run(monkeypatch, path, "--fix", tmp_path / "c.csv") == 0
    assert read_examples(tmp_path / "c.csv", separator="|").label_lists == read_examples(path).label_lists
    assert separator_for(["a|b", "c;d"]) == ","
    with pytest.raises(OutputError, match="--fix separates the labels of a text by one of"):
        separator_for(["a|b;c,d/e~f||g;;h|~|i"])


def test_nothing_that_is_read_is_written(tmp_path: Path, refused: Refused) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = write_csv(folder / "a.csv", CLEAN)
    before = path.read_bytes()
    for given in (path, folder, folder / "*.csv"):
        for flag in ("--json", "--html", "--fix"):
            told = refused(command.main, given, "--quick", flag, path, "--overwrite")
            assert f"{flag} {path} is a file that is read: name another" in told
    listed = write_csv(folder / "c.fixes.csv", CLEAN)
    assert "the list of --fix" in refused(command.main, listed, "--quick", "--fix", folder / "c.csv", "--overwrite")
    twice = ("--fix", tmp_path / "n.csv", "--json", tmp_path / "n.csv")
    assert f"--json and --fix both name {tmp_path / 'n.csv'}" in refused(command.main, path, "--quick", *twice)
    assert path.read_bytes() == before


def test_texts_without_a_word_in_common_are_audited_all_the_same() -> None:
    _, left_out = audit([part([(f"{number:x}" * 3, "ab"[number % 2]) for number in range(600, 1200)])])
    assert left_out == ["likely label errors are looked for by words, of which these texts have none in common"]


def test_what_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = write_csv(tmp_path / "train.csv", CLEAN)
    assert "is a file that is read: name another" in refused(command.main, path, "--fix", path, "--overwrite")
    assert "must end in .csv" in refused(command.main, path, "--fix", tmp_path / "a.json")
    (tmp_path / "c.csv").touch()
    assert "exists: name another file, or replace it" in refused(command.main, path, "--fix", tmp_path / "c.csv")
    assert "there is no file" in refused(command.main, tmp_path / "none.csv")
    assert "--encoding is 'x'" in refused(command.main, path, "--encoding", "x")
    assert "--max-length is 0, but must be 1 or more" in refused(command.main, path, "--max-length", 0)
    assert "--examples is -1, but must be 0 or more" in refused(command.main, path, "--examples", -1)


def test_training_warns_of_what_matters_and_of_nothing_else(tmp_path: Path) -> None:
    assert quick_warnings(read_examples(SAMPLE / "train.csv"), read_examples(SAMPLE / "test.csv")) == []
    rows = [*CLEAN, (CLEAN[0][0].upper(), "mouse"), ("cafÃ©", "horse"), *(("<b>x</b>", "horsse"),) * 2]
    train, other = write_csv(tmp_path / "a.csv", rows), write_csv(tmp_path / "b.csv", [(CLEAN[1][0], "mouse")])
    told = quick_warnings(read_examples(train), read_examples(other))
    assert [one.partition(": ")[2] for one in told[:-1]] == [
        f"1 texts stand there again with another label, as at {train}:2 and {train}:22",
        "2 of 24 texts stand there before, but for case and space",
        f"1 of 1 texts stand in {train}: scores flatter",
        "labels that differ by a letter: 'horse' and 'horsse'",
        "2 texts have markup of HTML",
        "1 texts were read in a wrong encoding once (Ã© for é)",
    ]
    assert told[-1] == "python -m training.audit shows where, and more (--html FILE)"


RATES = {"trec6": (0.9, 0.5), "banking77": (0.9, 0.7)}
"""Of planted near duplicates and of swapped labels that are found: docs/audit.md."""


@DATA
@pytest.mark.parametrize("name", RATES)
def test_planted_faults_are_found(name: str) -> None:
    draw, folder = random.Random(0), Path(os.environ["NLP_APP_DATA"]) / name
    read = {}
    for which in ("train", "test"):
        with gzip.open(folder / f"{which}.csv.gz", "rt", encoding="utf-8", newline="") as file:
            read[which] = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    rows, test, labels = read["train"], read["test"], sorted({label for _, label in read["train"]})
    before = found(part(rows), part(test, "test"))
    planted = list(rows)
    exact = [
        (text.upper() if number % 2 else f"  {text} ", label)
        for number, (text, label) in enumerate(draw.sample(rows, 100))
    ]
    near = []
    for text, label in draw.sample([row for row in rows if len(row[0].split()) >= 8], 100):
        words = text.split()
        words[draw.randrange(len(words))] = "really"
        near.append((" ".join(words), label))
    swapped = draw.sample(range(len(rows)), 50)
    for row in swapped:
        planted[row] = (rows[row][0], draw.choice([label for label in labels if label != rows[row][1]]))
    leaks = [(text, label) for text, label in draw.sample(test, 20)]
    twins = [(f"{text} indeed", label.upper() + " ") for text, label in draw.sample(rows, 10)]
    planted += [*exact, *near, *leaks, *twins]
    findings, left_out = audit([part(planted), part(test, "test")], most=10_000)
    after = {one.name: one for one in findings}
    assert left_out == []
    fewer = 30  # texts that stood there before, or were drawn twice, count once
    assert after["duplicates"].count - before["duplicates"].count >= 100 - fewer
    leaked = {example.text for example in after["leaks-test"].examples}
    assert all(any(shown.rstrip("…") in " ".join(text.split()) for shown in leaked) for text, _ in leaks)
    places = {example.place for example in after["near-duplicates"].examples}
    start = len(rows) + len(exact)
    near_found = sum(f"train.csv:{row + 2}" in places for row in range(start, start + 100))
    assert near_found >= 100 * RATES[name][0]
    suspected = set(after["label-errors"].details["rows"])
    assert len(suspected & set(swapped)) >= 50 * RATES[name][1], len(suspected & set(swapped))
    assert {tuple(pair)[1] for pair in after["label-twins"].details["pairs"]} >= {label for _, label in twins}


@DATA
def test_banking77_s_leaks() -> None:
    folder = Path(os.environ["NLP_APP_DATA"]) / "banking77"
    parts = [part_of(name, read_examples(folder / f"{name}.csv.gz")) for name in ("train", "test")]
    assert found(*parts)["leaks-test"].count == 7
