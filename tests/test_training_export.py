"""Checkpoints that ONNX Runtime answers for: the same answers, and no torch."""

import re
import sys
from functools import cache
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import onnx
import pytest
import torch

from nlp_app import Predictor
from nlp_app.checkpoint import load_checkpoint, save_checkpoint
from nlp_app.decision import Decision
from nlp_app.encoding import encode
from nlp_app.errors import CheckpointError, ConfigError
from nlp_app.folder import ONNX_FILE
from nlp_app.model import SHAPES_LENGTH, TextClassifier
from nlp_app.ngrams import SHAPES
from nlp_app.onnx_checkpoint import VERSION, load_onnx
from nlp_app.scoring import ask
from tests.conftest import METRICS, ROOT, TEXTS, Refused, command, make_module, make_tokenizer, write_checkpoint
from tests.test_nlp_app_compiled import with_ngrams
from tests.test_nlp_app_folded import shaken
from tests.test_serving_main import call, wait_until_ready
from training import export, onnx_module

TOKENIZER = make_tokenizer()
EVERY = [*TEXTS, "snow", "", "the unknown SNOW, 1999", "ice and snow and hot ice " * 30, "木水 😀 Été"]


@cache
def module(kind: str) -> TextClassifier:
    if kind == "blocks":
        return shaken(make_module(TOKENIZER, num_blocks=3, kernel_sizes=(2, 5)))
    found = with_ngrams(kernel_sizes=(1, 2, 3), multi_label=kind == "several labels")
    assert found.ngrams is not None
    found.ngrams.idf[0] = 0  # of unseen n-grams, as a checkpoint must have it
    return found


def saved(folder: Path, kind: str) -> Path:
    folder.mkdir()
    decision = Decision(min_score=0.6, min_familiarity=0.3)
    save_checkpoint(folder, module=module(kind), tokenizer=TOKENIZER, trained={}, metrics=METRICS, decision=decision)
    return folder


@pytest.fixture(scope="session", params=["n-grams", "several labels", "blocks"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = saved(tmp_path_factory.mktemp("exported") / "weather", request.param)
    done = command("training.export", folder, "--onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{folder / ONNX_FILE} has {(folder / ONNX_FILE).stat().st_size:,} bytes; on 1,010 texts" in done.stdout
    return folder


def test_it_gives_the_logits_and_the_familiarity_of_the_module(exported: Path) -> None:
    checkpoint, other = load_checkpoint(exported), load_onnx(exported)
    for texts in ([text] for text in EVERY), [EVERY], [EVERY * 200]:
        for some in texts:
            encoded = encode(some, tokenizer=checkpoint.tokenizer, config=checkpoint.config)
            for found, expected in zip(other.asked()(encoded), ask(checkpoint.module, encoded), strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
                assert found.dtype == np.float32


def test_several_threads_give_the_same(exported: Path) -> None:
    """Sums that are scattered into one place are wrong in most runs with two threads."""
    texts = [f"{text} {number}" for number in range(40) for text in EVERY]
    encoded = encode(texts, tokenizer=TOKENIZER, config=module("n-grams").config)
    one, two = (load_onnx(exported, threads=threads).asked() for threads in (1, 2))
    expected = one(encoded)[0]
    assert "Scatter" not in str(onnx.load(exported / ONNX_FILE).graph.node)
    for _ in range(20):
        np.testing.assert_allclose(two(encoded)[0], expected, rtol=1e-6, atol=1e-6)


def test_rows_are_those_of_the_branch() -> None:
    branch = module("n-grams").ngrams
    assert branch is not None
    slots = torch.arange(len(branch.rows))
    assert torch.equal(onnx_module.Rows(branch)(slots), branch.rows.long())


def test_a_predictor_says_the_same(exported: Path) -> None:
    one, other = (Predictor.load(exported, runtime=name, threads=1) for name in ("torch", "onnx"))
    assert one.checkpoint.version == other.checkpoint.version
    assert other.predict([]) == []
    for asked, found in zip(one.predict(EVERY, top_k=3), other.predict(EVERY, top_k=3), strict=True):
        assert [each.label for each in found.scores] == [each.label for each in asked.scores]
        assert [each.score for each in found.scores] == pytest.approx([each.score for each in asked.scores], abs=1e-5)
        assert (found.labels, found.abstained, found.truncated, found.out_of_scope) == (
            asked.labels, asked.abstained, asked.truncated, asked.out_of_scope
        )  # fmt: skip
    with pytest.raises(ConfigError, match="ONNX Runtime explains nothing"):
        other.predict(["snow"], explain=True)


@pytest.fixture
def weather(tmp_path: Path) -> Path:
    """A checkpoint with model.onnx, to break."""
    folder = write_checkpoint(tmp_path / "models" / "weather")
    (folder / ONNX_FILE).write_bytes(export.to_onnx(load_checkpoint(folder)))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_onnx(folder)
    return str(error.value)


def test_what_is_no_export_of_this_model_is_refused(weather: Path) -> None:
    path, remedy = weather / ONNX_FILE, f"make it with `python -m training.export {weather} --onnx`"
    whole = path.read_bytes()
    model = onnx.load_from_string(whole)
    assert load_onnx(weather).version == {one.key: one.value for one in model.metadata_props}[VERSION]
    (model.metadata_props[0] if len(model.metadata_props) == 1 else model.metadata_props.pop()).value = "0123"
    path.write_bytes(model.SerializeToString())
    assert refusal(weather).startswith(f"{path} was made of version 0123, but the folder holds ")
    path.write_bytes(whole[:-1000])
    assert refusal(weather).startswith(f"{path} is no model for ONNX Runtime (")
    path.write_bytes(b"")
    assert refusal(weather).endswith(remedy)
    path.unlink()
    assert refusal(weather) == f"{weather} has no {ONNX_FILE}: {remedy}"


def test_a_model_with_other_weights_does_not_answer_its_golden_inputs(weather: Path) -> None:
    model = onnx.load(weather / ONNX_FILE)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("output.weight"):
            weights = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(-weights, tensor.name))
    onnx.save(model, weather / ONNX_FILE)
    assert "does not answer its golden inputs" in refusal(weather)


def test_what_answers_otherwise_is_not_written(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "weather", "n-grams")
    monkeypatch.setitem(onnx_module.LENGTHS, SHAPES, SHAPES_LENGTH + 1e-3)
    told = refused(export.main, folder, "--onnx")
    assert re.match(r"error: ONNX Runtime answers otherwise than torch by up to .*: nothing was written", told)
    assert not (folder / ONNX_FILE).exists()


def test_what_cannot_be_exported_is_said_in_a_sentence(tmp_path: Path, checkpoint: Path) -> None:
    done = command("training.export", tmp_path / "absent", "--onnx")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: there is no checkpoint folder {tmp_path / 'absent'}")
    done = command("training.export", checkpoint)
    assert done.returncode == 2
    assert "required: --onnx" in done.stderr


WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; sys.argv[0] = 'serving'\n"
    "import runpy; runpy.run_module('serving', run_name='__main__', alter_sys=True)"
)


def test_the_server_answers_without_torch(exported: Path) -> None:
    expected = Predictor.load(exported).predict(TEXTS)
    program = [sys.executable, "-c", WITHOUT_TORCH, "--runtime", "onnx", "--port", "0", "--checkpoint", str(exported)]
    with Popen([*program, "--log-level", "warning"], stdout=PIPE, stderr=PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.search(r"http://[\d.:]+", line)[0]  # type: ignore[index]
            wait_until_ready(address)
            answer = call(f"{address}/predict", {"inputs": TEXTS})[1]
            refusals = [call(f"{address}/predict{rest}", {"inputs": "a", "explain": True}) for rest in ("", "?a=b")]
            versions = call(f"{address}/info")[1]["versions"]
            process.terminate()
            _, errors = process.communicate()
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    for found, asked in zip(answer["predictions"], expected, strict=True):  # type: ignore[call-overload]
        assert found["label"] == asked.label
        assert found["score"] == pytest.approx(asked.score, abs=1e-5)
    told = "explain: this server runs without torch and explains nothing: leave explain out"
    assert refusals == [(422, {"detail": told})] * 2
    assert "onnxruntime" in versions  # type: ignore[operator]
    assert "torch" not in versions  # type: ignore[operator]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_onnx_runtime_answers_on_the_cpu_alone(weather: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=f"--device is '{device}', but ONNX Runtime answers on the cpu here"):
        Predictor.load(weather, runtime="onnx", device=device)


def test_a_runtime_that_there_is_none_of(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="runtime is 'tvm', but must be torch or onnx"):
        Predictor.load(checkpoint, runtime="tvm")
