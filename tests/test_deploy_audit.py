"""deploy/audit.py: the records of a database against the packages of an image."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from deploy.audit import Finding, audit, is_affected
from tests.conftest import ROOT

Record = dict[str, Any]


def record(*events: tuple[str, str], name: str = "Jinja2", **more: object) -> Record:
    ranges = [{"type": "ECOSYSTEM", "events": [dict([one]) for one in events]}]
    return {"id": "PYSEC-1", "affected": [{"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges}], **more}


FIXED = record(("introduced", "0"), ("fixed", "3.1.3"))


@pytest.mark.parametrize(
    ("version", "events", "found"),
    [
        ("3.1.2", [("introduced", "0"), ("fixed", "3.1.3")], True),
        ("3.1.3", [("introduced", "0"), ("fixed", "3.1.3")], False),
        ("3.1.10", [("introduced", "0"), ("fixed", "3.1.9")], False),
        ("3.1.3rc1", [("introduced", "0"), ("fixed", "3.1.3")], True),
        ("2.9", [("introduced", "3.0"), ("fixed", "3.1.3")], False),
        ("2.0", [("introduced", "0"), ("fixed", "1.5"), ("introduced", "2.0"), ("fixed", "2.3")], True),
        ("1.7", [("introduced", "0"), ("fixed", "1.5"), ("introduced", "2.0"), ("fixed", "2.3")], False),
        ("3.1.2", [("introduced", "0"), ("last_affected", "3.1.2")], True),
        ("3.1.2.post1", [("introduced", "0"), ("last_affected", "3.1.2")], False),
        ("2.1.0+cpu", [("introduced", "2.1.0"), ("fixed", "2.2")], True),
        ("99", [("introduced", "0")], True),
        ("99", [("fixed", "3"), ("introduced", "0")], False),
    ],
)
def test_a_range_has_a_version(version: str, events: list[tuple[str, str]], found: bool) -> None:
    assert is_affected(version, record(*events)["affected"][0]) is found


def test_a_list_of_versions() -> None:
    affected = {"versions": ["1.0", "no version", "1.2.0"]}
    assert is_affected("1.2", affected)
    assert not is_affected("1.1", affected)


def test_names_are_compared_as_pypi_does() -> None:
    one = record(("introduced", "0"), name="Huggingface_Hub")
    assert audit([("huggingface-hub", "1.0")], [one]) == [Finding("huggingface-hub", "1.0", "PYSEC-1", "")]


def test_other_ecosystems_and_other_ranges_are_not_ours() -> None:
    elsewhere = record(("introduced", "0"))
    elsewhere["affected"][0]["package"]["ecosystem"] = "npm"
    commits = record(("introduced", "0"))
    commits["affected"][0]["ranges"][0]["type"] = "GIT"
    assert audit([("jinja2", "3.1.2")], [elsewhere, commits]) == []


def run(folder: Path, *records: Record, components: object = ({"name": "Jinja2", "version": "3.1.2"},)) -> Any:
    (folder / "sbom.json").write_text(json.dumps({"components": components}))
    with ZipFile(folder / "all.zip", "w") as database:
        for number, one in enumerate(records):
            database.writestr(f"{number}.json", json.dumps(one))
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "deploy.audit",
        "--database",
        folder / "all.zip",
        folder / "sbom.json",
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command(tmp_path: Path) -> None:
    done = run(tmp_path, FIXED, record(("introduced", "0"), withdrawn="2024-01-01T00:00:00Z"))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "jinja2 3.1.2: PYSEC-1, fixed in 3.1.3\n1 packages, 1 records, 1 found\n"
    assert run(tmp_path, record(("introduced", "4"))).returncode == 0


def test_each_version_of_several_lists_is_looked_at() -> None:
    for versions in (["3.1.2", "3.1.6"], ["3.1.6", "3.1.2"]):
        assert [one.version for one in audit([("jinja2", one) for one in versions], [FIXED])] == ["3.1.2"]


def test_a_version_before_the_first_is_affected_from_the_beginning_on() -> None:
    assert is_affected("0.0.0a1", record(("introduced", "0"))["affected"][0])


@pytest.mark.parametrize(
    ("records", "components", "message"),
    [
        ([], None, "has no record of a package of PyPI: it is another export, or cut short"),
        ([{"affected": [{"package": {"ecosystem": "npm", "name": "x"}}]}], None, "has no record of a package of PyPI"),
        ([[1]], None, "is no zip of OSV records ("),
        ([FIXED], [{"name": "x"}], "is no CycloneDX list of packages with versions (KeyError('version'))"),
        ([FIXED], 3, "is no CycloneDX list of packages"),
    ],
)
def test_what_could_find_nothing_is_an_error(tmp_path: Path, records: Any, components: Any, message: str) -> None:
    given = {} if components is None else {"components": components}
    done = run(tmp_path, *records, **given)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_files(tmp_path: Path) -> None:
    done = run(tmp_path, FIXED, components=[])
    assert (done.returncode, done.stderr) == (2, f"error: {tmp_path / 'sbom.json'} lists no packages\n")
    (tmp_path / "all.zip").write_text("no zip")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "deploy.audit",
        "--database",
        tmp_path / "all.zip",
        tmp_path / "sbom.json",
    ]
    (tmp_path / "sbom.json").write_text('{"components": [{"name": "a", "version": "1"}]}')
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {tmp_path / 'all.zip'} is no zip of OSV records (BadZipFile('File is not a zip file'))\n",
    )
