import hashlib
import json
import pickletools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from nlp_app import parts
from nlp_app.checkpoint import load_checkpoint, save_checkpoint
from nlp_app.errors import CheckpointError
from nlp_app.folder import MANIFEST, REPLACED, previous_folder, publish, work_folder
from nlp_app.parts import DIGESTED, METRICS
from tests.conftest import TEXTS, make_module, make_tokenizer, write_checkpoint

FILES = (*DIGESTED, METRICS, MANIFEST)


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder)
    return str(error.value)


def rewrite(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file and sign it anew, as a careless or hostile maker of checkpoints would."""
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["sha256"][name] = hashlib.sha256(path.read_bytes()).hexdigest()
    resign(folder, manifest)


def resign(folder: Path, manifest: object) -> None:
    data = json.dumps(manifest).encode()
    (folder / MANIFEST).write_bytes(data)
    metrics = json.loads((folder / METRICS).read_bytes())
    metrics["model"]["version"] = hashlib.sha256(data).hexdigest()[:12]
    (folder / METRICS).write_text(json.dumps(metrics))


def edit_json(change: Callable[[dict[str, object]], object]) -> Callable[[bytes], bytes]:
    def edited(data: bytes) -> bytes:
        values = json.loads(data)
        change(values)
        return json.dumps(values).encode()

    return edited


def edit_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[bytes], bytes]:
    def edited(data: bytes) -> bytes:
        tensors = safetensors.torch.load(data)
        change(tensors)
        return safetensors.torch.save(tensors)

    return edited


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    module = make_module(tokenizer)
    trained = {"options": {"seed": 3}}
    version = save_checkpoint(tmp_path, module=module, tokenizer=tokenizer, trained=trained, metrics={"test": None})
    loaded = load_checkpoint(tmp_path)
    for name, tensor in module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor), name
    assert "blocks.0.norm.0.running_var" in module.state_dict()
    assert loaded.config == module.config
    assert loaded.trained == trained
    assert not loaded.module.training
    assert loaded.tokenizer.to_bytes() == tokenizer.to_bytes()
    assert loaded.version == version == hashlib.sha256((tmp_path / MANIFEST).read_bytes()).hexdigest()[:12]
    size = (tmp_path / "model.safetensors").stat().st_size
    assert loaded.metrics == {"test": None, "model": {"bytes": size, "version": version}}


def test_loading_imports_no_compiler(checkpoint: Path) -> None:
    """torch imports its own where a first value is drawn on the meta device: 0.1 GB and a second."""
    code = (
        "import sys; from nlp_app import Predictor; "
        f"Predictor.load({str(checkpoint)!r}).predict(['snow']); "
        "print('torch._dynamo' in sys.modules, 'sympy' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False False\n"


def test_equal_models_have_equal_versions(checkpoint: Path, tmp_path: Path) -> None:
    again = write_checkpoint(tmp_path / "again")
    assert load_checkpoint(checkpoint).version == load_checkpoint(again).version


def test_the_manifest_names_every_file_but_metrics(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / MANIFEST).read_bytes())
    assert manifest["format_version"] == 2
    assert sorted(path.name for path in checkpoint.iterdir()) == sorted(FILES)
    assert sorted(manifest["sha256"]) == sorted(set(FILES) - {METRICS, MANIFEST})
    for name, digest in manifest["sha256"].items():
        assert digest == hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()


def test_no_file_is_a_pickle(checkpoint: Path) -> None:
    for name in FILES:
        with pytest.raises(ValueError, match=r"opcode|pickle exhausted"):
            list(pickletools.genops((checkpoint / name).read_bytes()))


def test_golden_inputs_come_from_the_vocabulary_not_from_texts(checkpoint: Path) -> None:
    examples = json.loads((checkpoint / "golden.json").read_bytes())["examples"]
    vocabulary = {word for text in TEXTS for word in text.split()}
    assert len(examples) >= 8
    assert all(set(example) == {"text", "label", "score"} for example in examples)
    assert {word for example in examples for word in example["text"].split()} <= vocabulary
    assert not {example["text"] for example in examples} & set(TEXTS)


def test_the_folder_may_go_once_it_is_loaded(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    before = {name: tensor.clone() for name, tensor in loaded.module.state_dict().items()}
    (checkpoint / "model.safetensors").write_bytes(b"\0" * 100_000)
    shutil.rmtree(checkpoint)
    for name, tensor in loaded.module.state_dict().items():
        assert torch.equal(before[name], tensor)


@pytest.mark.parametrize("name", FILES)
def test_refuses_a_missing_file(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    assert f"weather has no {name}, which every checkpoint has: copy the whole folder again" in refusal(checkpoint)


@pytest.mark.parametrize("name", FILES)
def test_refuses_a_truncated_file(checkpoint: Path, name: str) -> None:
    path = checkpoint / name
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{name} is not" in refusal(checkpoint)
    assert "copy the whole folder again" in refusal(checkpoint)
    path.write_bytes(b"")
    assert f"{name} is not" in refusal(checkpoint)


@pytest.mark.parametrize("name", FILES)
def test_refuses_an_edited_file(checkpoint: Path, name: str) -> None:
    path = checkpoint / name
    data = bytearray(path.read_bytes())
    digit = max(index for index, byte in enumerate(data) if 48 <= byte <= 57)
    data[digit] = 49 if data[digit] != 49 else 50
    path.write_bytes(data)
    message = refusal(checkpoint)
    if name == MANIFEST:  # a digit of one of the digests
        assert " is not the file that manifest.json names" in message
    elif name == METRICS:
        assert "it was swapped or edited" in message
    else:
        assert f"{name} is not the file that manifest.json names: it was edited, cut short or swapped" in message


@pytest.mark.parametrize("name", FILES)
def test_refuses_a_file_of_another_checkpoint(checkpoint: Path, tmp_path: Path, name: str) -> None:
    other = write_checkpoint(tmp_path / "other", num_filters=8, labels=("wet", "dry"))
    if name == "tokenizer.json":
        rewrite(other, name, lambda data: data + b"\n")
    shutil.copy(other / name, checkpoint / name)
    message = refusal(checkpoint)
    wrong = "model.safetensors" if name == MANIFEST else name
    assert f"{wrong} is" in message
    assert "swapped" in message


def test_refuses_two_files_that_were_swapped(checkpoint: Path) -> None:
    config, golden = checkpoint / "config.json", checkpoint / "golden.json"
    data = config.read_bytes()
    config.write_bytes(golden.read_bytes())
    golden.write_bytes(data)
    assert "config.json is not the file that manifest.json names" in refusal(checkpoint)


@pytest.mark.parametrize("name", [*DIGESTED, METRICS])
def test_refuses_a_file_that_is_a_folder(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    (checkpoint / name).mkdir()
    assert f"{name} cannot be read: Is a directory" in refusal(checkpoint)


def test_refuses_a_newer_format(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / MANIFEST).read_bytes())
    resign(checkpoint, {**manifest, "format_version": 3})
    assert "has format version 3, but this program reads up to 2: update the program" in refusal(checkpoint)


@pytest.mark.parametrize("written", [0, "1", None, True, 1.5])
def test_refuses_a_format_version_that_is_none(checkpoint: Path, written: object) -> None:
    manifest = json.loads((checkpoint / MANIFEST).read_bytes())
    resign(checkpoint, {**manifest, "format_version": written})
    assert f"has format_version {written!r}, but needs a whole number" in refusal(checkpoint)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "model.safetensors",
            edit_tensors(lambda tensors: tensors.update({"output.weight": torch.zeros(2, 12)})),
            r"has output.weight as (2, 12) float32, but config.json makes it (3, 12) float32",
        ),
        (
            "model.safetensors",
            edit_tensors(lambda tensors: tensors.update({"output.bias": torch.zeros(3, dtype=torch.float64)})),
            r"has output.bias as (3,) float64, but config.json makes it (3,) float32",
        ),
        (
            "model.safetensors",
            edit_tensors(lambda tensors: tensors.pop("blocks.0.norm.0.running_var")),
            "do not agree on which tensors there are: blocks.0.norm.0.running_var",
        ),
        (
            "model.safetensors",
            edit_tensors(lambda tensors: tensors.update({"extra": torch.zeros(1)})),
            "do not agree on which tensors there are: extra",
        ),
        ("model.safetensors", lambda data: data[:50], "is not a safetensors file"),
        (
            "model.safetensors",
            edit_tensors(lambda tensors: tensors["blocks.0.norm.0.running_mean"].add_(0.5)),
            "does not answer its golden inputs: the golden input",
        ),
        (
            "model.safetensors",
            edit_tensors(lambda tensors: tensors["output.bias"].fill_(float("nan"))),
            "has output.bias with values that are infinite or no numbers",
        ),
        (
            "model.safetensors",
            edit_tensors(lambda tensors: tensors["embedding.weight"][-1].fill_(float("-inf"))),
            "has embedding.weight with values that are infinite or no numbers",
        ),
        (
            "config.json",
            edit_json(lambda values: values["model"].update(vocab_size=77)),  # type: ignore[attr-defined]
            "tokens, but config.json says 77",
        ),
        (
            "config.json",
            edit_json(lambda values: values["model"]["labels"].append("mild")),  # type: ignore[index]
            "has output.bias as (3,) float32, but config.json makes it (4,) float32",
        ),
        (
            "config.json",
            edit_json(lambda values: values["model"].pop("dropout")),  # type: ignore[attr-defined]
            "config.json is no model's config: the model's config lacks 'dropout'",
        ),
        (
            "config.json",
            edit_json(lambda values: values["model"].update(num_filters=10**12)),  # type: ignore[attr-defined]
            "config.json makes it (1000000000000, 8, 1) float32",
        ),
        (
            "config.json",
            edit_json(lambda values: values["model"].update(num_filters=10**30)),  # type: ignore[attr-defined]
            "config.json is no model's config: a module of these sizes cannot be built",
        ),
        (
            "config.json",
            edit_json(lambda values: values["model"].update(num_blocks=10**9)),  # type: ignore[attr-defined]
            "config.json is no model's config: num_blocks is 1000000000, but must be at most 1,000",
        ),
        ("config.json", lambda data: b"[]", "config.json holds a JSON list, but must hold an object"),
        ("config.json", lambda data: b"{}", "config.json must hold the objects 'model', 'decision' and 'trained'"),
        ("config.json", lambda data: b"[" * 100_000, "config.json is not JSON"),
        ("tokenizer.json", lambda data: b"{}", "tokenizer.json cannot be used: not a tokenizer file"),
        ("golden.json", lambda data: b"{}", "golden.json does not hold texts with a label of the model and a score"),
        ("golden.json", lambda data: b'{"examples": []}', "golden.json holds no example"),
        (
            "golden.json",
            lambda data: b'{"examples": [{"text": "ice", "label": "mild", "score": 1}]}',
            "golden.json does not hold texts with a label of the model",
        ),
        (
            "golden.json",
            lambda data: b'{"examples": [{"text": "ice", "label": "hot", "score": 1.1}]}',
            "for 'hot', but scored 1.100000 when the model was saved",
        ),
    ],
)
def test_refuses_signed_parts_that_do_not_fit(
    checkpoint: Path, name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    rewrite(checkpoint, name, change)
    assert message in refusal(checkpoint)


@pytest.mark.parametrize("digests", [None, {}, {"config.json": "0"}, []])
def test_refuses_a_manifest_that_leaves_files_out(checkpoint: Path, digests: object) -> None:
    resign(checkpoint, {"format_version": 1, "sha256": digests})
    assert "must give the SHA-256 of model.safetensors, config.json, tokenizer.json, golden.json" in refusal(checkpoint)


def test_says_how_to_make_a_checkpoint_where_there_is_none(tmp_path: Path) -> None:
    assert "there is no checkpoint folder" in refusal(tmp_path / "absent")
    assert f"python -m training.run --output {tmp_path / 'absent'}" in refusal(tmp_path / "absent")


def test_loading_beside_a_swap_gives_the_old_or_the_new(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder swapped while it is read must not look like one that was tampered with."""
    other = write_checkpoint(checkpoint.parent / "other" / "weather", num_filters=8)
    versions = [load_checkpoint(folder).version for folder in (checkpoint, other)]
    read = parts.read
    swapped: list[Path] = []

    def swapping(folder: Path, name: str) -> bytes:
        data = read(folder, name)
        if name == parts.TOKENIZER and not swapped:
            swapped.append(other.rename(work_folder(checkpoint)))
            publish(checkpoint)
        return data

    monkeypatch.setattr(parts, "read", swapping)
    assert load_checkpoint(checkpoint).version == versions[1] != versions[0]


def test_loading_repairs_a_crashed_swap(checkpoint: Path) -> None:
    version = load_checkpoint(checkpoint).version
    (checkpoint / REPLACED).touch()
    checkpoint.rename(previous_folder(checkpoint))
    assert load_checkpoint(checkpoint).version == version
    checkpoint.rename(work_folder(checkpoint))
    assert load_checkpoint(checkpoint).version == version
    assert [path.name for path in checkpoint.parent.iterdir()] == ["weather"]
