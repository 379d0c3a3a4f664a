"""The rules of the house: who may import whom, what an import may do, and that the README shows the tree as it is."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import nlp_app
from tests.conftest import ROOT

ORDER = [
    "errors", "cgroup", "heap",
    "client.errors", "client.predictions", "client.reading", "client.exchange", "client.turn", "client.arguments",
    "client.batches", "client.policy", "client.sending", "client.sync", "client.asynchronous", "client",
    "config", "decision", "tokenizer", "characters", "_ngrams", "ngrams", "places",
    "encoding", "probabilities", "explanation", "golden", "folder", "parts", "contents",
    "ngram_batch", "model", "folded", "_folded", "compiled", "device", "scoring", "quantize", "weights", "explain",
    "checkpoint", "onnx_checkpoint", "predictor", "rows", "packing", "recoding", "delimited", "arrow", "formats",
    "tables", "resumable", "predict",
]  # fmt: skip
MAY_IMPORT = {"nlp_app": {"nlp_app"}, "training": {"nlp_app", "training"}, "serving": {"nlp_app", "serving"}}
ROOMS = {"nlp_app", "training", "serving", "tests", "benchmarks"}
WEB = {"fastapi", "starlette", "uvicorn", "pydantic"}
MODULES = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, in functions too, as a dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_the_rooms_that_it_may(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    imported = {name.split(".")[0] for name in imports(path)}
    assert imported & ROOMS <= MAY_IMPORT[room]
    if room == "nlp_app":
        assert not imported & WEB


def module_of(path: Path) -> str:
    return name_of(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def place_of(imported: str) -> str:
    """The file of the core that an import is from, as ORDER names it."""
    first, *rest = imported.split(".")[1:]
    return inner if (inner := ".".join([first, *rest[:1]])) in ORDER else first


@pytest.mark.parametrize("path", [path for path in MODULES if module_of(path).startswith("nlp_app.")], ids=name_of)
def test_a_file_of_the_core_imports_only_from_its_left(path: Path) -> None:
    place = module_of(path).removeprefix("nlp_app.")
    assert place in ORDER, "give the new file its place in ORDER"
    imported = {place_of(name) for name in imports(path) if name.startswith("nlp_app.")}
    assert imported <= set(ORDER[: ORDER.index(place)]), "imports from its right"


def test_importing_does_nothing() -> None:
    """No thread, no logging set-up, no file opened for writing, no change of torch's settings."""
    names = [module_of(path) for path in MODULES]
    program = """if True:
        import importlib, logging, sys, threading, torch
        def state():
            return threading.active_count(), torch.get_num_threads(), torch.initial_seed(), list(logging.root.handlers)
        before, written = state(), []
        def audit(event, arguments):
            if event == "open" and "w" in str(arguments[1]):
                written.append(arguments)
        sys.addaudithook(audit)
        for name in sys.argv[1:]:
            importlib.import_module(name)
        assert before == state(), (before, state())
        assert not written, written
    """
    subprocess.run([sys.executable, "-B", "-c", program, *names], check=True, cwd=ROOT)  # -B: no .pyc either


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == nlp_app.__version__


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    return {line for line in listed.splitlines() if (ROOT / line).exists()}


def tree_of(readme: str) -> set[str]:
    """The paths of the README's annotated tree."""
    block = next(block for block in readme.split("```")[1::2] if block.startswith("\nnlp_app/"))
    found, folder = set(), ""
    for line in block.strip().splitlines():
        indent, name = re.fullmatch(r"( *)(\S+).*", line).groups()  # type: ignore[union-attr]
        folder = folder if indent else ""
        found.add(folder + name)
        if name.endswith("/") and not indent:
            folder = name
    return found


def test_the_readme_shows_the_tree_as_it_is() -> None:
    shown = tree_of((ROOT / "README.md").read_text(encoding="utf-8"))
    for path in shown:
        assert (ROOT / path).exists(), f"the README shows {path}, which is not there"
    files = {path for path in tracked() if not path.startswith(".") and path != "README.md"}
    top = {path.split("/")[0] + ("/" if "/" in path else "") for path in files}
    assert top <= shown, f"the README leaves out {sorted(top - shown)}"
    for room in ("nlp_app/", "training/", "serving/", "benchmarks/"):
        inside = {path for path in files if path.startswith(room) and path.count("/") == 1 and "__" not in path}
        assert inside <= shown, f"the README leaves out {sorted(inside - shown)}"
