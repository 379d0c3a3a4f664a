"""`python -m benchmarks.saving`: a whole module pickled, beside its parameters alone.

Every outcome is what really happened in a process of its own: a module is saved, its class is then renamed, moved or
given a layer, and another process loads what was saved. The product writes and loads no pickle; this stays in a
temporary folder.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from benchmarks.common import make_module, markdown, run_benchmark
from nlp_app.config import ModelConfig
from nlp_app.errors import run_command
from nlp_app.model import TextClassifier
from training.measure import median_seconds

CPU = torch.device("cpu")
NETWORK = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(4, 4, 3)
    def forward(self, x):
        return self.convolution(x)
"""
GAINED = NETWORK.replace("nn.Conv1d(4, 4, 3)\n", "nn.Conv1d(4, 4, 3)\n        self.norm = nn.BatchNorm1d(4)\n").replace(
    "self.convolution(x)", "self.norm(self.convolution(x))"
)
CHANGES = {
    "nothing": ("network", NETWORK, "Net"),
    "the class is renamed": ("network", NETWORK.replace("class Net", "class Network"), "Network"),
    "the class moves to another file": ("model", NETWORK, "Net"),
    "the class gains a layer": ("network", GAINED, "Net"),
}
"""The file, its text and the class at the time of loading."""
SAVE = """
import torch, safetensors.torch
from network import Net
torch.save(Net(), "whole.pt")
safetensors.torch.save_file(Net().state_dict(), "parameters.safetensors")
"""
LOAD = {
    "whole module": "net = torch.load('whole.pt', weights_only=False)",
    "parameters only": "net = {name}(); net.load_state_dict(safetensors.torch.load_file('parameters.safetensors'))",
}
REPORT = """
import safetensors.torch, torch
from {file} import {name}
try:
    {load}
    net.eval()(torch.zeros(1, 4, 9))
    print("loads and answers")
except Exception as error:
    print(type(error).__name__ + ": " + " ".join(str(error).split()))
"""
ATTACK = """
import pathlib, torch, safetensors.torch
class Hidden:
    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path("ran-" + "hidden-code"),))
torch.save({"weights": Hidden()}, "hidden.pt")
pathlib.Path("hidden.safetensors").write_bytes(pathlib.Path("hidden.pt").read_bytes())
"""
OPEN = {
    "torch.load of a whole module": "torch.load('hidden.pt', weights_only=False)",
    "torch.load, weights_only": "torch.load('hidden.pt', weights_only=True)",
    "safetensors": "safetensors.torch.load_file('hidden.safetensors')",
}


def measure(_: torch.device) -> dict[str, Any]:
    """Sizes, seconds to load, what breaks, and what runs hidden code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {"files": _files(folder), "changes": _changes(folder), "hidden_code": _hidden_code(folder)}


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    files = [
        (row["way"], f"{row['mb']:.2f}", f"{1000 * row['load_s']:.1f}", f"{row['time']:.2f}") for row in result["files"]
    ]
    changes = [(row["change"], *(f"`{row[way]}`" for way in LOAD)) for row in result["changes"]]
    hidden = [(row["way"], "yes" if row["ran"] else "no", f"`{row['outcome']}`") for row in result["hidden_code"]]
    changed = [row for row in result["changes"] if row["change"] != "nothing"]
    broken = [row["change"] for row in changed if row["whole module"] != "loads and answers"]
    kept = [row["change"] for row in changed if row["parameters only"] == "loads and answers"]
    ran = [row["way"] for row in result["hidden_code"] if row["ran"]]
    bad = bool(broken) and bool(ran)
    return "\n\n".join((
        markdown(("saved", "MB", "load, ms", "load, of whole module"), files),
        "The default model with a vocabulary of 30,000; loading is until the module is filled.",
        markdown(("after saving", *LOAD), changes),
        markdown(("loading hidden code", "it ran", "outcome"), hidden),
        f"**Verdict: {'holds' if bad else 'does not hold'}**: a whole module is a bad way, and this is the "
        "\"because\" that "
        f"the notes leave open. It breaks when {', or when '.join(broken)}, since a pickle names the class and "
        "rebuilds the "
        f"object as it was; and loading it runs what code it holds ({', '.join(ran)}). Parameters load by name into a "
        f"module that the program builds: they load when {' and when '.join(kept)}, and where a layer is new the error "
        "says which tensors it lacks. This product saves parameters only.",
    ))  # fmt: skip


def _files(folder: Path) -> list[dict[str, Any]]:
    module = make_module(CPU).eval()
    config = ModelConfig.from_json(json.loads(json.dumps(module.config.to_json())))
    torch.save(module, folder / "module.pt")
    (folder / "module.safetensors").write_bytes(safetensors.torch.save(module.state_dict()))

    def whole() -> None:
        torch.load(folder / "module.pt", weights_only=False)  # of the file just written

    def parameters() -> None:
        with torch.device("meta"):  # as nlp_app.checkpoint does
            module = TextClassifier(config=config)
        module.load_state_dict(safetensors.torch.load((folder / "module.safetensors").read_bytes()), assign=True)

    times = median_seconds([whole, parameters], CPU, rounds=9)
    return [
        {"way": way, "mb": (folder / name).stat().st_size / 1e6, "load_s": seconds, "time": seconds / times[0]}
        for way, name, seconds in zip(LOAD, ("module.pt", "module.safetensors"), times, strict=True)
    ]


def _changes(folder: Path) -> list[dict[str, str]]:
    (folder / "network.py").write_text(NETWORK)
    _python(SAVE, folder)
    rows = []
    for change, (file, text, name) in CHANGES.items():
        (folder / "network.py").unlink(missing_ok=True)
        (folder / f"{file}.py").write_text(text)
        outcomes = {
            way: _python(REPORT.format(file=file, name=name, load=load.format(name=name)), folder)
            for way, load in LOAD.items()
        }
        rows.append({"change": change, **outcomes})
        (folder / f"{file}.py").unlink()
    return rows


def _hidden_code(folder: Path) -> list[dict[str, Any]]:
    _python(ATTACK, folder)
    marker = folder / "ran-hidden-code"
    rows = []
    for way, load in OPEN.items():
        marker.unlink(missing_ok=True)
        program = (
            "import pathlib, safetensors.torch, torch\ntry:\n    {}\n    print('loads')\nexcept Exception as error:\n"
        )
        outcome = _python(program.format(load) + "    print(type(error).__name__)", folder)
        rows.append({"way": way, "ran": marker.exists(), "outcome": outcome})
    return rows


def _python(program: str, folder: Path) -> str:
    """What a program says on its last line, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", program], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip().replace(f"{folder}/", "")[:160]


def main() -> int:
    """Measure, print, write; gives the exit code."""
    return run_benchmark("saving", __doc__, measure, section)


if __name__ == "__main__":
    run_command(main)
