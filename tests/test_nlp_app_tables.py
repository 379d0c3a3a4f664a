import bz2
import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_app.errors import ConfigError, DataError
from nlp_app.recoding import check_encoding
from nlp_app.rows import MAX_CHARACTERS, Value
from nlp_app.tables import column_names, read_rows, read_texts

COLUMNS = ("text", "label")
ROWS = [
    ("where is it?", "01"),
    ("a, comma and a \"quote\"", "NA"),
    ("two\nlines", "None"),
    ("emoji 👍🏽 and 中文", "true"),
    ("  spaces  ", "1.0"),
    ("", "1e3"),
]  # fmt: skip


def write_delimited(path: Path, delimiter: str, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("id", *COLUMNS), *((str(number), *row) for number, row in enumerate(rows))])
    return path


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def write(path: Path, rows: list[tuple[str, str]] = ROWS) -> Path:
    """The rows in the format that the name asks for."""
    plain = path.with_suffix("") if path.suffix in PACK else path
    objects = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    table = pa.table({name: [row[place] for row in rows] for place, name in enumerate(COLUMNS)})
    if plain.suffix in (".csv", ".tsv"):
        write_delimited(plain, "," if plain.suffix == ".csv" else "\t", rows)
    elif plain.suffix in (".jsonl", ".ndjson"):
        lines = [json.dumps(one, ensure_ascii=False) for one in objects]
        plain.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    elif plain.suffix == ".json":
        plain.write_text(json.dumps(objects, indent=1), encoding="utf-8")
    elif plain.suffix == ".parquet":
        pq.write_table(table, plain)
    else:
        maker = pa.ipc.new_file if plain.suffix == ".feather" else pa.ipc.new_stream
        with maker(plain, table.schema) as file:
            file.write_table(table)
    if path.suffix in PACK:
        path.write_bytes(PACK[path.suffix](plain.read_bytes()))
        plain.unlink()
    return path


def values(path: Path, columns: tuple[str, ...] = COLUMNS) -> list[tuple[Value, ...]]:
    return [row.values for row in read_rows(path, columns)]


def refusal(path: Path, columns: tuple[str, ...] = COLUMNS) -> str:
    with pytest.raises(DataError) as error:
        values(path, columns)
    return str(error.value).replace(str(path), path.name)


def made(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("zipped", ["", *PACK])
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "ndjson", "json", "parquet", "arrow", "feather", "CSV"])
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str, zipped: str) -> None:
    path = write(tmp_path / f"rows.{ending.lower()}{zipped}")
    path = path.rename(tmp_path / f"rows.{ending}{zipped}")
    assert values(path) == ROWS


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text("ab \r\n\"',;\t"))))
def test_csv_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = write_delimited(tmp_path_factory.mktemp("csv") / "rows.csv", ",", rows)
    assert values(path) == rows


def test_rows_know_their_line(tmp_path: Path) -> None:
    path = made(tmp_path / "rows.csv", 'text,label\n"two\nlines",a\n\n\nnext,b\n')
    assert [row.line for row in read_rows(path, COLUMNS)] == [2, 6]
    path = made(tmp_path / "rows.jsonl", '{"text": "x", "label": "a"}\n\n{"text": "y", "label": "b"}\n')
    assert [row.line for row in read_rows(path, COLUMNS)] == [1, 3]


def test_json_values_keep_their_spelling(tmp_path: Path) -> None:
    lines = ['{"text": 1.50, "label": 007e1}'.replace("007", "7"), '{"text": true, "label": null}']
    path = made(tmp_path / "rows.jsonl", "\n".join(lines))
    assert values(path) == [("1.50", "7e1"), ("true", None)]


def test_parquet_numbers_booleans_and_nulls_become_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2, None], "label": [True, False, None]}), tmp_path / "rows.parquet")
    assert values(tmp_path / "rows.parquet") == [("1", "true"), ("2", "false"), (None, None)]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert values(made(tmp_path / "rows.csv", "\ufefftext,label\nx,a\n")) == [("x", "a")]


def test_windows_line_ends(tmp_path: Path) -> None:
    assert values(made(tmp_path / "rows.csv", "text,label\r\nx,a\r\n")) == [("x", "a")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", "", "rows.csv is empty: its first line must name the columns"),
        ("rows.jsonl", "", "rows.jsonl is empty: each line must be a JSON object"),
        ("rows.csv", "body,class\nx,a\n", "rows.csv has no column 'text': its columns are 'body', 'class'"),
        ("rows.csv", "text,text,label\nx,y,a\n", "rows.csv has more than one column 'text': rename one of them"),
        ("rows.csv", "text,label\nx,a\none, two,b\n", "rows.csv:3: the row has 3 fields, but the header names 2"),
        ("rows.csv", "text,label\nx\n", "rows.csv:2: the row has 1 fields, but the header names 2"),
        ("rows.csv", 'text,label\nx,a\n"open,b\ny,c\n', "rows.csv:3: a quote is opened in this row and never closed"),
        ("rows.csv", 'text,label\n"x"y,a\n', "rows.csv:2: the quotes of this row are broken"),
        ("rows.csv", 'text,label\n"x\n"y,a\n', "rows.csv:2: the quotes of this row, on line 3, are broken"),
        ("rows.tsv", 'text\tlabel\n"open\tb\n', "rows.tsv:2: a quote is opened in this row and never closed"),
        ("rows.csv", "text,label\rx,a\ry,b\r", "rows.csv:1: a carriage return stands outside quotes"),
        ("rows.csv", b"text,label\nx,a\ncaf\xe9,b\n", "rows.csv:3: byte 4 of the line is 0xe9, which is not UTF-8"),
        ("rows.csv", "text,label\nx,a\n".encode("utf-16")[:-1], "rows.csv: after line 1 stands what is not utf-16 ("),
        ("rows.csv", b"text,label\nx,a\ncaf\xe9,b\n", "name its own with --encoding, or save it as UTF-8"),
        ("rows.json", "[]", "rows.json is no array of JSON objects: write [{"),
        ("rows.json", '{"a": [1, 2]}', "rows.json:1: the object has no key 'text': its keys are 'a'"),
        ("rows.json", '[{"text": "x", "label": "a"}, 3]', "rows.json is no array of JSON objects"),
        ("rows.json", '[{"text": "x", "label": {"is": "a"}}]', "rows.json:1: 'label' is a JSON object, but must be"),
        ("rows.json", '[{"text": "x"', "rows.json is not JSON (Expecting"),
        ("rows.json", b'[{"text": "\xff"}]', "rows.json: byte 12 is not UTF-8: name its own with --encoding"),
        ("rows.json", "[" * 100_000, "rows.json is not JSON"),
        ("rows.arrow", b"ARROW1 no", "rows.arrow is no whole Arrow file"),
        ("rows.arrow", b"no", "rows.arrow is no whole Arrow file"),
        ("rows.feather", b"", "rows.feather is no whole Arrow file"),
        ("rows.csv.bz2", b"text,label\n", "rows.csv.bz2 is no whole bzip2 file (Invalid data stream): copy it again"),
        ("rows.csv.bz2", bz2.compress(b"text,label\n" + bytes(range(97, 123)) * 99)[:-9], "is no whole bzip2 file"),
        ("rows.csv.zst", b"text,label\n", "rows.csv.zst is no whole zstd file ("),
        ("rows.csv.zst", pa.compress(b"text,label\nx,a\n", "zstd", asbytes=True)[:-2], "is no whole zstd file"),
        ("rows.jsonl", b'{"text": "\xff", "label": "a"}', "rows.jsonl:1: byte 11 of the line is 0xff"),
        ("rows.jsonl", '{"text": "x", "label": "a"}\n{"text": ', "rows.jsonl:2: the line is not JSON"),
        ("rows.jsonl", '["x", "a"]', "rows.jsonl:1: the line is not a JSON object"),
        ("rows.jsonl", '{"text": "x"}', "rows.jsonl:1: the object has no key 'label': its keys are 'text'"),
        ("rows.jsonl", '{"text": "x", "label": ["a"]}', "rows.jsonl:1: 'label' is a list, but must be a text"),
        ("rows.jsonl", '{"text": {}, "label": "a"}', "rows.jsonl:1: 'text' is a JSON object, but must be a text"),
        ("rows.jsonl", '{"text": "x", "label": NaN}', "rows.jsonl:1: the line is not JSON (NaN is no JSON value)"),
        ("rows.jsonl", "[" * 100_000, "rows.jsonl:1: the line is not JSON"),
        ("rows.jsonl", '{"text": "\\ud800", "label": "a"}', "rows.jsonl:1: 'text' holds a lone surrogate, U+D800"),
        ("rows.parquet", b"PAR1 no", "rows.parquet is no whole Parquet file"),
        ("rows.csv.gz", b"text,label\n", "rows.csv.gz is no whole gzip file"),
        ("rows.csv.gz", gzip.compress(b"text,label\n" + bytes(range(97, 123)) * 99)[:-9], "is no whole gzip file"),
        ("rows.txt", "x", "rows.txt: unknown kind of file: its name must end in .csv, .tsv, .jsonl, .ndjson"),
    ],
)
def test_refuses_broken_files(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    found = refusal(made(tmp_path / name, content))
    assert message in found
    assert ": " in found


def long_csv(path: Path) -> Path:
    return made(path, f"text,label\nx,a\n{'y' * (MAX_CHARACTERS + 1)},b\n")


def long_jsonl(path: Path) -> Path:
    return made(path, json.dumps({"text": "y" * 10_000_000, "label": "a"}))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("rows.csv", long_csv, "rows.csv:3: a text is longer than 1,000,000 characters"),
        ("rows.jsonl", long_jsonl, "rows.jsonl:1: 'text' holds 10,000,000 characters, but at most 1,000,000 are read"),
    ],
)
def test_refuses_a_text_of_10_mb(tmp_path: Path, name: str, make: Callable[[Path], Path], message: str) -> None:
    assert message in refusal(make(tmp_path / name))


def test_refuses_what_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.csv") == "there is no file absent.csv"
    (tmp_path / "folder.csv").mkdir()
    assert refusal(tmp_path / "folder.csv") == "folder.csv is a folder: name a file"


def test_refuses_parquet_texts_that_are_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    pq.write_table(pa.table({"text": broken, "label": ["a"]}), path)
    assert "column 'text' holds bytes that are not UTF-8" in refusal(path)


def test_refuses_parquet_columns_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [["x"]], "label": ["a"]}), path)
    assert refusal(path) == "rows.parquet:1: 'text' is a list, but must be a text"
    pq.write_table(pa.table({"text": [{"x": 1}], "label": ["a"]}), path)
    assert "column 'text' is of type struct<" in refusal(path)
    assert "rows.parquet has no column 'body': its columns are 'text', 'label'; name yours" in refusal(path, ("body",))


def test_leaves_the_csv_modules_limit_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    values(write(tmp_path / "rows.csv"))
    assert csv.field_size_limit() == before


def test_texts_of_a_file_of_another_name_are_its_lines(tmp_path: Path) -> None:
    path = made(tmp_path / "mails.txt", "one\n\ntwo, three\r\n")
    assert list(read_texts(path, ["text"])) == ["one", "", "two, three"]


def test_texts_of_several_columns_are_joined(tmp_path: Path) -> None:
    path = made(tmp_path / "mails.csv", "subject,body\nhi,there\n,alone\n")
    assert list(read_texts(path, ["subject", "body"])) == ["hi there", "alone"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_header_without_commas_shows_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    assert values(write_delimited(tmp_path / "rows.csv", delimiter, ROWS)) == ROWS


@pytest.mark.parametrize("header", ["text;label,x", "text;label|x"])
def test_a_header_that_shows_two_delimiters_shows_none(tmp_path: Path, header: str) -> None:
    assert "has no column 'text'" in refusal(made(tmp_path / "rows.csv", f"{header}\na;b,c\n"))


@pytest.mark.parametrize("zipped", ["", ".gz", ".zst"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize(("named", "encoding"), [(None, "utf-16"), ("utf-16-le", "utf-16-le"), ("cp1251", "cp1251")])
def test_other_encodings(tmp_path: Path, ending: str, zipped: str, named: str | None, encoding: str) -> None:
    """More of them than are decoded at once."""
    rows = [(f'строка {number}, "да"\nи ещё', "01") for number in range(5000)]
    path = write(tmp_path / f"rows.{ending}", rows)
    data = path.read_text("utf-8").encode(encoding)
    path = made(tmp_path / f"packed.{ending}{zipped}", PACK[zipped](data) if zipped else data)
    assert [row.values for row in read_rows(path, COLUMNS, encoding=named)] == rows


def test_a_file_that_is_not_in_the_encoding_tells_about_where(tmp_path: Path) -> None:
    path = made(tmp_path / "rows.csv", "text,label\n" + "x,a\n" * 99_999 + "café,b\n")
    with pytest.raises(DataError, match=r"rows.csv: after line 9\d,\d{3} stands what is not ascii \(ordinal not in"):
        list(read_rows(path, COLUMNS, encoding="ascii"))


@pytest.mark.parametrize("name", ["utf8", "UTF_8", "latin-1", None])
def test_encodings_that_there_are(name: str | None) -> None:
    check_encoding(name)


@pytest.mark.parametrize("name", ["utf-9", "base64", "", "a\0b"])
def test_encodings_that_there_are_not(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--encoding is .*, which is none: give utf-8"):
        check_encoding(name)


@pytest.mark.parametrize("content", ['{"version": 1, "data": [%s]}', "%s\n", "[%s]", " \n [%s]"])
def test_what_a_json_file_may_be(tmp_path: Path, content: str) -> None:
    path = made(tmp_path / "rows.json", content % '{"text": "x", "label": 01.0}'.replace("01", "1"))
    assert values(path) == [("x", "1.0")]


def test_lines_of_json_in_a_file_for_arrays(tmp_path: Path) -> None:
    path = made(tmp_path / "rows.json", '{"text": "x", "label": "a"}\n\n{"text": "y", "label": "b"}\n')
    assert [row.line for row in read_rows(path, COLUMNS)] == [1, 3]
    assert column_names(path, every=True) == ["text", "label"]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_numbers_of_classes_have_the_names_that_the_hub_gave_them(tmp_path: Path, ending: str) -> None:
    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"text": ["x", "y", "z"], "label": [1, 0, -1]}).replace_schema_metadata(told)
    if ending == "parquet":
        pq.write_table(table, tmp_path / "rows.parquet")
    else:
        with pa.ipc.new_stream(tmp_path / "rows.arrow", table.schema) as file:
            file.write_table(table)
    assert values(tmp_path / f"rows.{ending}") == [("x", "pos"), ("y", "neg"), ("z", None)]
