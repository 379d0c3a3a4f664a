"""`make locks`: the packages of each image with the hashes of their files, from pyproject.toml and constraints.txt.

uv resolves them for every platform. torch has a file of its own, since its wheel may come from another index, and so
has what a wheel of torch for CUDA needs beside it. PyPI has no wheel for the CPU alone: the hashes of those that were
added to torch.txt by hand stay while the version does, and `python deploy/lock.py WHEEL …` adds those of files.
"""

import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "deploy" / "locks"
IMAGES = {
    "serving": ("serving", "traces"),
    "onnx": ("serving", "traces", "onnx"),
    "training": ("serving", "traces", "training", "export"),
}
"""The extras in each; the one for ONNX Runtime does without what follows."""
TORCH_ALONE = ("torch", "safetensors")
OF_CUDA = re.compile(r"(nvidia|cuda)-|triton==")
SBOM = "cyclonedx-bom==7.5.0"
"""Writes what is in an image into it."""


def main(wheels: Sequence[Path]) -> None:
    """Write the files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for image, extras in IMAGES.items():
        wanted = [*project["dependencies"], *(one for name in extras for one in project["optional-dependencies"][name])]
        if image == "onnx":
            wanted = [one for one in wanted if re.split(r"\W", one)[0] not in TORCH_ALONE]
        pinned = resolve(wanted)
        write(image, pinned, lambda one: not OF_CUDA.match(one) and not one.startswith("torch=="))
        if image == "serving":
            write("cuda", pinned, OF_CUDA.match)
            write("torch", with_wheels(next(one for one in pinned if one.startswith("torch==")), wheels), bool)
    write("sbom", resolve([SBOM]), bool)


def resolve(wanted: Iterable[str]) -> list[str]:
    """Each package with its version and its hashes, as a requirements file has them."""
    command = ["uv", "pip", "compile", "-", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--constraint", str(ROOT / "constraints.txt"), "--no-header", "--no-annotate", "--quiet"]
    told = subprocess.run(command, input="\n".join(wanted), check=True, capture_output=True, text=True).stdout
    return re.findall(r"^\S.*(?:\n .*)*", told, re.MULTILINE)


def with_wheels(pinned: str, wheels: Iterable[Path]) -> list[str]:
    """The package with the hashes of more files, and of those that stand beside the same version now."""
    before = (LOCKS / "torch.txt").read_text() if (LOCKS / "torch.txt").exists() else ""
    version = pinned.split()[0]
    known = re.findall(r"--hash=\S+", pinned)
    more = re.findall(r"--hash=\S+", before) if before.startswith(version) else []
    more += [f"--hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}" for wheel in wheels]
    return [" \\\n    ".join([version, *dict.fromkeys(known + more)])]


def write(name: str, pinned: Iterable[str], keep: Callable[[str], object]) -> None:
    """Write those that are kept."""
    (LOCKS / f"{name}.txt").write_text("".join(f"{one}\n" for one in pinned if keep(one)))


if __name__ == "__main__":
    main([Path(one) for one in sys.argv[1:]])
