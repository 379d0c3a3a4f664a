"""Labelled texts from everywhere: the same rows and the same weights, whatever they were kept in."""

import csv
import gzip
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from nlp_app.errors import ConfigError, DataError
from tests.conftest import ROOT, Refused, command, write_csv
from tests.test_nlp_app_tables import PACK
from tests.test_serving_workers import free_port
from training.assemble import new_learner
from training.data import Examples, read_examples
from training.options import Options
from training.prepare import prepare
from training.run import main
from training.source_files import TableFile, split_labels
from training.sources import Given, names_of

Pairs = list[tuple[str, str]]
SCRIPTS = ["where is it", "01", "NA", "  None ", "true", 'a "quote", a comma', "naïve 日本", "😀 emoji", "tab\there"]
MADE = [(f"{SCRIPTS[number % 9]} number {number}", ("01", "NA", "true")[number % 3]) for number in range(150)]


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """trec6 where there is data, so many rows made up where there is none."""
    folder = os.environ.get("NLP_APP_DATA")
    if folder is None:
        return MADE
    with gzip.open(Path(folder) / "trec6" / "train.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def delimited(pairs: Pairs, delimiter: str) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows([("text", "label"), *pairs])
    return stream.getvalue().encode()


def objects(pairs: Pairs) -> list[dict[str, str]]:
    return [{"text": text, "label": label} for text, label in pairs]


def arrow(pairs: Pairs, kind: str) -> bytes:
    texts, labels = map(list, zip(*pairs, strict=True))
    table, sink = pa.table({"text": texts, "label": labels}), pa.BufferOutputStream()
    if kind == "parquet":
        pq.write_table(table, sink, row_group_size=999)
    else:
        with {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}[kind](sink, table.schema) as writer:
            writer.write_table(table, 999)
    return bytes(sink.getvalue())


PLAIN: dict[str, Callable[[Pairs], bytes]] = {
    "rows.csv": lambda pairs: delimited(pairs, ","),
    "semicolons.csv": lambda pairs: delimited(pairs, ";"),
    "rows.tsv": lambda pairs: delimited(pairs, "\t"),
    "rows.jsonl": lambda pairs: "".join(f"{json.dumps(one)}\n" for one in objects(pairs)).encode(),
    "rows.json": lambda pairs: json.dumps({"version": 1, "data": objects(pairs)}).encode(),
    "rows.parquet": lambda pairs: arrow(pairs, "parquet"),
    "rows.feather": lambda pairs: arrow(pairs, "file"),
    "rows.arrow": lambda pairs: arrow(pairs, "stream"),
    "train.txt": lambda pairs: "".join(f"__label__{label} {text}\n" for text, label in pairs).encode(),
    "utf-16.csv": lambda pairs: delimited(pairs, ",").decode().encode("utf-16"),
}


def one_file(name: str, data: Callable[[Pairs], bytes]) -> Callable[[Pairs, Path], Given]:
    def put(pairs: Pairs, folder: Path) -> Given:
        path = folder / name
        path.write_bytes(data(pairs))
        return str(path)

    return put


def several(pairs: Pairs, folder: Path) -> Given:
    third = len(pairs) // 3
    (folder / "a.csv").write_bytes(delimited(pairs[:third], ","))
    (folder / "b.jsonl").write_bytes(PLAIN["rows.jsonl"](pairs[third:-third]))
    (folder / "c.parquet").write_bytes(arrow(pairs[-third:], "parquet"))
    return str(folder / "a.csv"), str(folder / "b.jsonl"), str(folder / "c.parquet")


def pattern(pairs: Pairs, folder: Path) -> Given:
    for number in range(12):
        (folder / "deep" / f"{number:02}").mkdir(parents=True)
        rows = pairs[number * len(pairs) // 12 : (number + 1) * len(pairs) // 12]
        (folder / "deep" / f"{number:02}" / "part.tsv").write_bytes(delimited(rows, "\t"))
    return str(folder / "**" / "*.tsv")


def folder_of_tables(pairs: Pairs, folder: Path) -> Given:
    half = len(pairs) // 2
    (folder / "data-00000-of-00002.arrow").write_bytes(arrow(pairs[:half], "stream"))
    (folder / "data-00001-of-00002.arrow").write_bytes(arrow(pairs[half:], "stream"))
    (folder / "dataset_info.json").write_text("{}")
    return str(folder)


def hub_layout(pairs: Pairs, folder: Path) -> Given:
    """As the hub keeps it: numbers of classes, whose names the card tells."""
    names = sorted({label for _, label in pairs})
    table = pa.table({"text": [text for text, _ in pairs], "label": [names.index(label) for _, label in pairs]})
    (folder / "data").mkdir()
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet")
    classes = "".join(f"          '{number}': '{name}'\n" for number, name in enumerate(names))
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
        "dataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
        f"      class_label:\n        names:\n{classes}---\n"
    )
    return f"hub:{folder}"


def hub_csv(pairs: Pairs, folder: Path) -> Given:
    (folder / "train.csv").write_bytes(delimited(pairs, ","))
    (folder / "test.csv").write_bytes(delimited(pairs[:9], ","))
    return f"hub:{folder}"


KEEP_ORDER: dict[str, Callable[[Pairs, Path], Given]] = {
    **{name: one_file(name, data) for name, data in PLAIN.items()},
    **{
        name + ending: one_file(name + ending, lambda pairs, name=name, pack=pack: pack(PLAIN[name](pairs)))  # type: ignore[misc]
        for name in ("rows.csv", "rows.jsonl", "train.txt", "rows.parquet")
        for ending, pack in PACK.items()
    },
    "several files": several,
    "a pattern": pattern,
    "a folder of tables": folder_of_tables,
    "the hub's layout": hub_layout,
    "CSV in the hub's layout": hub_csv,
}


def label_folders(pairs: Pairs, folder: Path) -> Given:
    for number, (text, label) in enumerate(pairs):
        (folder / label).mkdir(exist_ok=True)
        (folder / label / f"{number}.txt").write_text(text + "\n", encoding="utf-8", newline="")
    return folder


def rows_of(examples: Examples) -> Pairs:
    return [(text, str(label)) for text, label in zip(examples.texts, examples.labels, strict=True)]


def weights(given: Given, **values: object) -> dict[str, torch.Tensor]:
    """After 20 steps."""
    options = Options(train=given, ngrams="none", num_filters=8, embedding_dim=16, epochs=2, batch_size=16, **values)  # type: ignore[arg-type]
    quiet = Console(quiet=True)
    prepared = prepare(options, quiet)
    learner = new_learner(options, prepared, prepared.train, quiet)
    learner.advance(prepared.train, to=min(20, learner.steps_per_epoch), on_step=lambda *_: None)
    return learner.module.state_dict()


@pytest.fixture(scope="module")
def reference(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return weights(one_file("reference.csv", PLAIN["rows.csv"])(pairs, tmp_path_factory.mktemp("reference")))


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", KEEP_ORDER)
def test_every_format_gives_the_same_rows_and_weights(
    name: str, pairs: Pairs, reference: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    given = KEEP_ORDER[name](pairs, tmp_path)
    assert rows_of(read_examples(given)) == pairs
    assert_same(weights(given), reference)


def test_folders_of_labels_give_the_same_rows_in_another_order(pairs: Pairs, tmp_path: Path) -> None:
    examples = read_examples(label_folders(pairs, tmp_path))
    assert Counter(rows_of(examples)) == Counter(pairs)
    assert Path(examples.place(0)).read_text(encoding="utf-8").rstrip("\n") == examples.texts[0]
    assert examples.notes == [f"{tmp_path}: the label of a text is the name of its folder"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json", "rows.parquet", "rows.feather",
                                  "rows.arrow", "train.txt", "utf-16.csv", "semicolons.csv"])  # fmt: skip
@pytest.mark.parametrize("packing", ["", *PACK])
def test_standard_input_may_be_in_any_format(name: str, packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = PLAIN[name](MADE)
    piped = io.BytesIO(PACK[packing](data) if packing else data)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=piped))
    examples = read_examples("-")
    assert rows_of(examples) == MADE
    assert examples.place(0).startswith("standard input:")


def test_a_fault_in_standard_input_is_told_of_as_such(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"text,label\nx,a\none, two,b\n")))
    assert "error: standard input:3: the row has 3 fields" in refused(main, "--train", "-")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a real server, which is gone when the tests are done."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb") or (programs and str(programs[-1] / "initdb"))
    if not found:
        pytest.skip("there is no PostgreSQL")
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user:
        shutil.chown(folder, "postgres")
    (folder / "password").write_text("se:cret")
    (folder / "password").chmod(0o644)
    port, data = free_port(), folder / "data"
    run = [*user, found, "--pgdata", str(data), "--username=app", "--auth=scram-sha-256", "--encoding=UTF8"]
    subprocess.run([*run, f"--pwfile={folder / 'password'}"], check=True, capture_output=True, cwd="/")
    control = [*user, str(Path(found).with_name("pg_ctl")), "--pgdata", str(data), "--wait", "--silent"]
    listen = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
    subprocess.run([*control, "--log", str(folder / "log"), "-o", listen, "start"], check=True, cwd="/")
    try:
        yield f"postgresql://app:se%3Acret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "--mode=immediate", "stop"], check=True, cwd="/")
        shutil.rmtree(folder)


def fill(connection: Any, pairs: Pairs, mark: str) -> None:
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE tickets (id INTEGER, body TEXT, label TEXT)")
    rows = [(number, text, label) for number, (text, label) in enumerate(pairs)]
    cursor.executemany(f"INSERT INTO tickets VALUES ({mark}, {mark}, {mark})", rows)
    connection.commit()
    connection.close()


SELECT = "SELECT body, label FROM tickets ORDER BY id"


def test_postgresql(postgres: str, pairs: Pairs, reference: dict[str, torch.Tensor]) -> None:
    fill(psycopg.connect(postgres), pairs, "%s")
    examples = read_examples(postgres, query=SELECT)
    assert rows_of(examples) == pairs
    place = postgres.replace("se%3Acret", "***")
    assert examples.place(0) == f"{place}:1"
    assert_same(weights(postgres, query=SELECT), reference)
    arrays = "SELECT body AS text, ARRAY[label, 'all'] AS labels FROM tickets ORDER BY id LIMIT 2"
    assert read_examples(postgres, query=arrays).labels == [(label, "all") for _, label in pairs[:2]]


@pytest.mark.parametrize(
    ("change", "query", "message"),
    [
        (("se%3Acret", "wrong"), SELECT, 'password authentication failed for user "app"'),
        (("/postgres", "/nowhere"), SELECT, 'database "nowhere" does not exist'),
        (("127.0.0.1:", "127.0.0.1:1"), SELECT, "refuses: "),
        (("", ""), "SELECT nothing FROM nowhere", 'relation "nowhere" does not exist'),
        (("", ""), "CREATE TABLE other (x INTEGER)", 'refuses: syntax error at or near "CREATE"'),
        (("", ""), "SELECT 1 AS body", "has no column 'label': its columns are 'body'"),
        (("", ""), "SELECT '\\x00'::bytea AS text, 'a' AS label", "'text' is of type bytes, but must be a text"),
        (("", ""), "SELECT 'x' AS text, NULL AS label", ":1: the row has no 'label': give it a label or remove it"),
    ],
)
def test_what_postgresql_refuses(postgres: str, change: tuple[str, str], query: str, message: str) -> None:
    address = postgres.replace(*change, 1) if change[0] else postgres
    if change[0].startswith("127"):
        address = f"postgresql://app:x@127.0.0.1:{free_port()}/postgres"
    with pytest.raises(DataError) as error:
        read_examples(address, query=query)
    assert message in str(error.value)
    assert "se%3Acret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_sqlite_and_what_is_written_of_its_address(pairs: Pairs, tmp_path: Path) -> None:
    fill(sqlite3.connect(tmp_path / "tickets.db"), pairs, "?")
    address = f"sqlite:///{tmp_path}/tickets.db"
    assert rows_of(read_examples(address, query=SELECT)) == pairs
    with pytest.raises(DataError, match="the query gives no rows: write SELECT"):
        read_examples(address, query="CREATE TABLE other (x INTEGER)")
    numbers = read_examples(address, query="SELECT id AS text, id % 2 AS label FROM tickets ORDER BY id")
    assert rows_of(numbers)[:3] == [("0", "0"), ("1", "1"), ("2", "0")]
    with pytest.raises(DataError, match=r"there is no file .*none\.db: correct the address"):
        read_examples(f"sqlite:///{tmp_path}/none.db", query=SELECT)
    assert not (tmp_path / "none.db").exists(), "SQLite makes what it does not find"


def test_no_password_is_written_down(tmp_path: Path) -> None:
    assert names_of("mysql://me:secret@host/db") == "mysql://me:***@host/db"
    assert names_of("mysql://host/db?x=1") == "mysql://host/db?x=1"
    hidden = names_of("postgresql://host/db?user=me&password=se=cret&sslpassword=x&y=1")
    assert hidden == "postgresql://host/db?user=me&password=***&sslpassword=***&y=1"
    assert names_of((tmp_path / "a.csv", "b/c.csv", "hub:owner/name")) == "a.csv c.csv hub:owner/name"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "sqlite:///x.db"], "sqlite:///x.db is a database: say with --query what to read of it"),
        (["--train", "x.csv", "--query", "SELECT 1"], "--query is of a database, and none is given"),
        (["--train", "nothing://x", "--query", "SELECT 1"], "nothing://x: the database's driver is missing"),
        (["--train", "https://me:x@host/a.csv"], "https://me:***@host/a.csv is not fetched: download it, and name the"),
        (["--train", "postgresql://h:port/x", "--query", "SELECT 1"], "postgresql://h:port/x is no address of a data"),
        (["--test", "sqlite:///x.db"], "sqlite:///x.db is a database: say with --test-query what to read of it"),
        (["--train", "hub:"], "hub: names no data set: write hub:owner/name"),
        (["--train", "nowhere-*.csv"], "nowhere-*.csv matches no file: correct the pattern"),
        (["--train", "nowhere.csv"], "there is no file nowhere.csv"),
        (["--train", "x.csv", "--encoding", "utf-9"], "--encoding is 'utf-9', which is none: give utf-8"),
    ],
)
def test_words_that_name_nothing(arguments: list[str], message: str, refused: Refused, tmp_path: Path) -> None:
    assert message in refused(main, *arguments, "--output", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    for name in ("pos/a.txt", "neg/b.txt", "pos/._a.txt", ".ipynb_checkpoints/a.txt"):
        (tmp_path / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / name).write_text(name)
    assert rows_of(read_examples(tmp_path / "labels")) == [("neg/b.txt", "neg"), ("pos/a.txt", "pos")]
    (tmp_path / "tables").mkdir()
    write_csv(tmp_path / "tables" / "a.csv", [("x", "a")])
    (tmp_path / "tables" / "._a.csv").write_bytes(b"\xff\xff")
    assert rows_of(read_examples(tmp_path / "tables")) == [("x", "a")]


def test_names_of_classes_over_texts_are_left_alone(tmp_path: Path) -> None:
    told = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["x", "y", "z"], "label": ["pos", "1", "7"]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(told)}), tmp_path / "a.parquet")
    rows = [row.values for row in TableFile(tmp_path / "a.parquet").rows(["text", "label"], [])]
    assert rows == [("x", "pos"), ("y", "pos"), ("z", None)]


class Case(NamedTuple):
    files: dict[str, str]
    message: str


CASES = {
    "a column is missing in one file": Case(
        {"a.csv": "text,label\nx,a\n", "b.csv": "text,other\ny,b\n"}, "b.csv has no column 'label': its columns are"
    ),
    "a number here and a word there": Case(
        {"a.jsonl": '{"text": "x", "label": 1}\n', "b.jsonl": '{"text": "y", "label": "good"}\n'},
        "a.jsonl are numbers, as '1', those of ",
    ),
    "another number of fields": Case(
        {"a.csv": "text,label\nx,a\n", "b.csv": "text,label\ny\n"}, "b.csv:2: the row has 1"
    ),
    "a nested label": Case({"a.jsonl": '{"text": "x", "label": {"is": 1}}\n'}, "a.jsonl:1: 'label' is a JSON object"),
    "no label": Case({"a.jsonl": '{"text": "x", "label": null}\n'}, "a.jsonl:1: the row has no 'label'"),
    "JSON in CSV": Case({"a.csv": '{"text": "x", "label": "a"}\n'}, "a.csv has no column 'text': its columns are"),
    "lines without a mark": Case({"a.txt": "__label__a x\ny\n"}, "a.txt:2: the row has no 'label'"),
    "no marks at all": Case({"a.txt": "x\ny\n"}, "a.txt: unknown kind of file: its name must end in .csv"),
}


@pytest.mark.parametrize("name", CASES)
def test_files_that_do_not_go_together(name: str, tmp_path: Path) -> None:
    files = [tmp_path / file for file in CASES[name].files]
    for path, content in zip(files, CASES[name].files.values(), strict=True):
        path.write_text(content)
    with pytest.raises(DataError) as error:
        read_examples(tuple(files))
    assert CASES[name].message in str(error.value)


def test_folders_that_are_not_clear(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"the folder .* holds neither tables \(.csv, .* nor LABEL/\*.txt: name the file"
    ):
        read_examples(tmp_path)
    write_csv(tmp_path / "a.csv", [("x", "a")])
    (tmp_path / "b.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"mixes .csv, .jsonl: name the files that are meant"):
        read_examples(tmp_path)


def test_a_text_knows_its_file_and_line(tmp_path: Path) -> None:
    first, second = write_csv(tmp_path / "a.csv", [("x", "a"), ("y", "b")]), write_csv(tmp_path / "b.csv", [("z", "c")])
    examples = read_examples((first, second))
    assert [examples.place(row) for row in range(3)] == [f"{first}:2", f"{first}:3", f"{second}:2"]
    assert examples.take([2, 0]).place(0) == f"{second}:2"
    assert str(examples.path) == f"{first} and 1 more"


@pytest.mark.parametrize(
    ("line", "text", "labels"),
    [
        ("__label__a  two spaces", " two spaces", ("a",)),
        ("__label__a __label__b x y", "x y", ("a", "b")),
        ("x __label__a y", "x y", ("a",)),
        ("x __label__a", "x", ("a",)),
        ("__label__a\t__label__b x\t__label__c\ty", "x\ty", ("a", "b", "c")),
        ("__label__a\u00a0b x", "x", ("a\u00a0b",)),
        ("no label", "no label", ()),
        ("__label__a", "", ("a",)),
        ("not__label__a x", "not__label__a x", ()),
    ],
)
def test_fasttext_s_lines(line: str, text: str, labels: tuple[str, ...]) -> None:
    assert split_labels(line) == (text, labels)


def test_several_labels_in_fasttext_s_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("__label__a __label__b x\n\n__label__a y\nz\n")
    examples = read_examples(tmp_path / "a.txt")
    assert (examples.labels, examples.lines) == ([("a", "b"), ("a",), ()], [1, 3, 4])


@pytest.mark.parametrize(
    ("header", "notes"),
    [
        (("question", "intent"), ["texts are in the column 'question' (", "labels are in the column 'intent' ("]),
        (("Text", "Label"), ["texts are in the column 'Text' (", "labels are in the column 'Label' ("]),
        (("text", "labels"), []),
        (("message", "category", "text", "label"), []),
    ],
)
def test_columns_are_found_and_said(header: tuple[str, ...], notes: list[str], tmp_path: Path) -> None:
    examples = read_examples(write_csv(tmp_path / "a.csv", [("x", "a") * (len(header) // 2)], header))
    assert rows_of(examples) == [("x", "a")]
    assert all(found.startswith(note) for found, note in zip(examples.notes, notes, strict=True))


def test_columns_that_may_be_one_or_the_other_are_not_guessed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [("x", "y", "a")], ("question", "message", "label"))
    with pytest.raises(DataError, match="has no column 'text': its columns are 'question', 'message', 'label'"):
        read_examples(path)


def test_what_was_found_is_said(tmp_path: Path) -> None:
    rows = [(f"{word} {number}", word) for number in range(20) for word in ("да", "нет")]
    path = tmp_path / "a.csv"
    path.write_bytes("".join(f"{text};{label}\n" for text, label in [("question", "class"), *rows]).encode("utf-16"))
    done = command("training.run", "--train", path, "--epochs", 1, "--output", tmp_path / "model", COLUMNS="200")
    assert done.returncode == 0, done.stderr
    for said in ("column 'question'", "column 'class'", "is read as utf-16", "has its columns parted by ';'"):
        assert said in done.stdout
    plain = tmp_path / "b.csv"
    plain.write_bytes("".join(f"{text},{label}\n" for text, label in [("text", "label"), *rows]).encode("cp1251"))
    assert rows_of(read_examples(plain, encoding="cp1251")) == rows
    evaluated = command(
        "training.evaluate", "--checkpoint", tmp_path / "model", "--data", plain, "--encoding", "cp1251"
    )
    assert evaluated.returncode == 0, evaluated.stderr


def test_the_hub_s_splits(tmp_path: Path) -> None:
    given = hub_csv(MADE, tmp_path)
    assert rows_of(read_examples(given, split="test")) == MADE[:9]
    assert rows_of(read_examples(f"{given}@test")) == MADE[:9]
    with pytest.raises(DataError, match=r"has no split 'dev': it has train, test; write hub:"):
        read_examples(f"{given}@dev")


def test_the_hub_without_a_network() -> None:
    done = command("training.run", "--train", "hub:owner/name", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "error: hub:owner/name: there is no way to the hub (" in done.stderr


ABSENT = """
import http.server, os, sys, threading
class Absent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_HEAD = do_GET
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Absent)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
sys.argv = ["run", "--train", "hub:owner/name"]
from nlp_app.errors import run_command
from training.run import main
run_command(main)
"""


def test_a_name_that_the_hub_has_not(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABSENT], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "hub:owner/name: there is no such data set, or it is not open to you" in done.stderr


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for library, given, extra in (("datasets", f"hub:{tmp_path}", "hub"), ("sqlalchemy", "sqlite:///x.db", "sql")):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(DataError, match=rf"pip install 'nlp_app\[{extra}\]'"):
            read_examples(given, query="SELECT 1" if extra == "sql" else None)


def test_a_database_without_a_query() -> None:
    with pytest.raises(ConfigError, match="say with --query"):
        read_examples("sqlite:///x.db")
