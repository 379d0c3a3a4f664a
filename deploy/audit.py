"""`python -m deploy.audit --database all.zip SBOM …`: which packages of an image are known to be vulnerable, offline.

The database is the export of osv.dev for PyPI, or any zip of records of its schema
(https://ossf.github.io/osv-schema); an image has the list of its packages in /app/sbom.cdx.json.
"""

import argparse
import json
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

Record = Mapping[str, Any]


class Finding(NamedTuple):
    """A package that a record is about."""

    package: str
    version: str
    record: str
    fixed: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.package} {self.version}: {self.record}" + (f", fixed in {self.fixed}" if self.fixed else "")


def main() -> int:
    """Gives 1 where something is found, and 2 where a file cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m deploy.audit", description=__doc__)
    parser.add_argument("--database", type=Path, required=True, help="a zip of OSV records")
    parser.add_argument("sboms", type=Path, nargs="+", metavar="SBOM")
    options = parser.parse_args()
    try:
        installed = {one for path in options.sboms for one in packages(path)}
        known = list(records(options.database))
        found = audit(installed, known)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for one in found:
        print(one)
    print(f"{len(installed)} packages, {len(known)} records, {len(found)} found")
    return int(bool(found))


def packages(sbom: Path) -> set[tuple[str, str]]:
    """The name and the version of each package that a CycloneDX list has.

    Raises:
        ValueError: it lists none, or is no such list.
    """
    try:
        components = json.loads(sbom.read_bytes())["components"]
        found = {(str(canonicalize_name(one["name"])), str(one["version"])) for one in components}
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{sbom} is no CycloneDX list of packages with versions ({error!r})") from None
    if not found:
        raise ValueError(f"{sbom} lists no packages")
    return found


def records(path: Path) -> list[Record]:
    """Those about packages of PyPI that were not withdrawn.

    Raises:
        ValueError: there are none, so that nothing could be found, or the file holds something else.
    """
    try:
        with ZipFile(path) as database:
            found = [json.loads(database.read(name)) for name in database.namelist() if name.endswith(".json")]
        kept = [one for one in found if "withdrawn" not in one and of_pypi(one)]
    except (ValueError, AttributeError, TypeError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no zip of OSV records ({error!r})") from None
    if not kept:
        raise ValueError(f"{path} has no record of a package of PyPI: it is another export, or cut short")
    return kept


def audit(installed: Iterable[tuple[str, str]], known: Iterable[Record]) -> list[Finding]:
    """What is known of what is installed, in order."""
    versions: dict[str, set[str]] = defaultdict(set)
    for name, version in installed:
        versions[name].add(version)
    return sorted(
        Finding(name, version, record["id"], ", ".join(fixes(affected)))
        for record in known
        for affected in of_pypi(record)
        for name in [canonicalize_name(affected["package"]["name"])]
        for version in versions.get(name, ())
        if is_affected(version, affected)
    )


def of_pypi(record: Record) -> list[Record]:
    """What a record says of packages of PyPI."""
    return [one for one in record.get("affected", []) if one.get("package", {}).get("ecosystem") == "PyPI"]


def is_affected(version: str, affected: Record) -> bool:
    """Whether a record names the version, or a range of it has it; 2.1.0+cpu is 2.1.0."""
    parsed = Version(Version(version).public)
    listed = (parse(one) for one in affected.get("versions", []))
    ranges = (one for one in affected.get("ranges", []) if one["type"] == "ECOSYSTEM")
    return parsed in listed or any(_in_range(parsed, one["events"]) for one in ranges)


def _in_range(version: Version, events: Iterable[Mapping[str, str]]) -> bool:
    """Each event holds from its version on, in the order of versions (the schema's own evaluation)."""
    inside = False
    for kind, text in sorted((next(iter(one.items())) for one in events), key=lambda one: parse(one[1])):
        at = parse(text)
        if kind == "introduced" and (version >= at or text == "0"):
            inside = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            inside = False
    return inside


def parse(text: str) -> Version:
    """A version as PyPI has it; what is none, as old records have, is older than all."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0.dev0")


def fixes(affected: Record) -> list[str]:
    """The versions that mend it."""
    events = [event for one in affected.get("ranges", []) if one["type"] == "ECOSYSTEM" for event in one["events"]]
    return [event["fixed"] for event in events if "fixed" in event]


if __name__ == "__main__":
    sys.exit(main())
