"""Weights of 8 bits: what is measured, what is saved and what is loaded are the same numbers."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from nlp_app import parts
from nlp_app.checkpoint import load_checkpoint, save_checkpoint
from nlp_app.encoding import encode
from nlp_app.model import TextClassifier
from nlp_app.quantize import (
    BLOCK,
    INT8,
    KINDS,
    LEVELS,
    SCALES,
    SMALLEST,
    dequantize,
    pack,
    packed_bytes,
    quantize,
    round_weights,
    stored_like,
    unpack,
)
from nlp_app.scoring import score
from tests.conftest import METRICS, ROW_LABELS, TEXTS, make_module, make_tokenizer
from tests.test_nlp_app_checkpoint import edit_json, edit_tensors, refusal, rewrite
from tests.test_training_data import examples
from training.batches import Dataset
from training.calibration import Calibration
from training.combine import combine
from training.linear import fit_branch

TOKENIZER = make_tokenizer()
WEIGHT = "ngrams.weight"


def whole_module() -> TextClassifier:
    module = make_module(TOKENIZER, ngram_slots=1 << 12, ngram_orders=(2, 3))
    data = Dataset.of(examples(list(ROW_LABELS), TEXTS), tokenizer=TOKENIZER, config=module.config)
    return combine(module, fit_branch(data, module.config, class_weights=None), Calibration(scales=(0.3, 2.0)))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkpoint whose weights are int8."""
    folder = tmp_path / "small"
    folder.mkdir()
    save_checkpoint(folder, module=whole_module(), tokenizer=TOKENIZER, trained={}, metrics=METRICS, weights=INT8)
    return folder


@example([1.1754943508222875e-38])  # the smallest normal float32
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, max_value=2.0**100, min_value=-(2.0**100)),
                min_size=1, max_size=3 * BLOCK))  # fmt: skip
def test_rounding_is_to_the_nearest_level_and_leaves_what_it_rounded(values: list[float]) -> None:
    weight = torch.tensor([values])
    stored = quantize({"weight": weight})
    once = dequantize(stored)["weight"]
    assert all(torch.equal(tensor, stored[name]) for name, tensor in quantize({"weight": once}).items())
    for before, after in zip(torch.split(weight[0], BLOCK), torch.split(once[0], BLOCK), strict=True):
        level = before.abs().max() / LEVELS
        assert (
            before - after
        ).abs().max() <= 0.75 * level + LEVELS * SMALLEST  # half, and what the scale was rounded by


def test_zeros_stay_zeros_and_opposites_opposites() -> None:
    weight = torch.randn(500, 2)
    weight[:, 1] = -weight[:, 0]
    weight[0] = 0
    rounded = dequantize(quantize({"weight": weight}))["weight"]
    assert torch.equal(rounded[:, 1], -rounded[:, 0])
    assert not rounded[0].any()


def test_vectors_stay_as_they_are_but_for_idf() -> None:
    state = whole_module().state_dict()
    stored = quantize(state)
    kept = {name for name in state if torch.equal(stored[name], state[name])}
    assert kept == {name for name, tensor in state.items() if tensor.ndim < 2} - {"ngrams.idf", "ngrams.seen"}
    assert "blocks.0.norm.0.running_var" in kept
    described = {name: (tensor.shape, tensor.dtype) for name, tensor in stored_like(state).items()}
    assert described == {name: (tensor.shape, tensor.dtype) for name, tensor in stored.items()}


def test_what_was_measured_is_what_is_loaded(tmp_path: Path) -> None:
    module = whole_module()
    before = score(module, encode(TEXTS, tokenizer=TOKENIZER, config=module.config))
    round_weights(module)
    encoded = encode(TEXTS, tokenizer=TOKENIZER, config=module.config)
    measured = score(module, encoded)
    save_checkpoint(tmp_path, module=module, tokenizer=TOKENIZER, trained={}, metrics=METRICS, weights=INT8)
    loaded = load_checkpoint(tmp_path).module
    assert torch.equal(score(loaded, encoded), measured)
    for name, tensor in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
        assert loaded.state_dict()[name].dtype == tensor.dtype
    assert 0 < (measured - before).abs().max() < 0.1


@given(st.integers(3, 12).flatmap(lambda bits: st.tuples(st.just(1 << bits), st.sets(st.integers(0, (1 << bits) - 1)))))
def test_packed_slots_are_unpacked(given_slots: tuple[int, set[int]]) -> None:
    slots, numbers = given_slots
    bits = np.zeros(slots, dtype=np.uint8)
    bits[list(numbers)] = 1
    seen = torch.from_numpy(np.packbits(bits, bitorder="little"))
    packed = pack(seen, count=len(numbers))
    assert len(packed) == packed_bytes(slots, len(numbers)) <= len(seen)
    assert torch.equal(unpack(packed, slots=slots, count=len(numbers)), seen)


def test_packed_slots_of_a_small_set_take_little() -> None:
    """With 91,000 of two million, the n-grams of trec6: 73 kB in place of 262."""
    assert packed_bytes(1 << 21, 91_000) == 73_259


@given(st.binary(min_size=packed_bytes(1 << 12, 100), max_size=packed_bytes(1 << 12, 100)))
def test_what_is_no_packing_gives_no_more_slots_than_there_are_rows(data: bytes) -> None:
    packed = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    seen = unpack(packed, slots=1 << 12, count=100)
    assert len(seen) == (1 << 12) // 8
    assert np.unpackbits(seen.numpy()).sum() <= 100


def test_a_file_from_before_slots_were_packed_is_read(small: Path) -> None:
    module = load_checkpoint(small).module
    rewrite(small, parts.CONFIG, edit_json(lambda values: values.update(weights=INT8)))
    assert "has ngrams.seen as" in refusal(small)
    seen = module.state_dict()["ngrams.seen"]
    rewrite(small, parts.MODEL, edit_tensors(lambda tensors: tensors.update({"ngrams.seen": seen})))
    assert torch.equal(load_checkpoint(small).module.state_dict()["ngrams.seen"], seen)


def test_refuses_packed_slots_that_were_spoilt(small: Path) -> None:
    rewrite(small, parts.MODEL, edit_tensors(lambda tensors: tensors["ngrams.seen"].fill_(0)))
    assert "0 slots of n-grams are seen, but there are rows for" in refusal(small)


def test_the_file_is_a_quarter(small: Path) -> None:
    tensors = safetensors.torch.load((small / parts.MODEL).read_bytes())
    weights = [name.removesuffix(SCALES) for name in tensors if name.endswith(SCALES)]
    assert {"embedding.weight", "blocks.0.convolutions.0.weight", WEIGHT, "ngrams.idf", "output.weight"} == {
        name for name in weights if not name.endswith(("convolutions.1.weight", "convolutions.2.weight"))
    }
    stored = sum(tensors[name].numel() + 2 * tensors[name + SCALES].numel() for name in weights)
    assert stored < 0.27 * sum(4 * tensors[name].numel() for name in weights)


def test_refuses_what_does_not_fit(small: Path) -> None:
    rewrite(small, parts.MODEL, edit_tensors(lambda tensors: tensors.update({WEIGHT: tensors[WEIGHT].float()})))
    assert "float32, but config.json makes it" in refusal(small)


def test_refuses_scales_of_another_number(small: Path) -> None:
    name = WEIGHT + SCALES
    rewrite(small, parts.MODEL, edit_tensors(lambda tensors: tensors.update({name: tensors[name][:-1].clone()})))
    assert f"has {name} as" in refusal(small)


def test_refuses_weights_that_are_not_what_the_config_says(small: Path) -> None:
    rewrite(small, parts.CONFIG, edit_json(lambda values: values.pop("weights")))
    assert "do not agree on which tensors there are" in refusal(small)


def test_refuses_a_kind_that_it_does_not_know(small: Path) -> None:
    rewrite(small, parts.CONFIG, edit_json(lambda values: values.update(weights="int4")))
    assert "says that the weights are 'int4', but this program reads float32, int8, int8-packed" in refusal(small)


@pytest.mark.parametrize("scale", [float("nan"), 3e38])
def test_refuses_a_scale_that_makes_no_number(small: Path, scale: float) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["output.weight" + SCALES][0] = scale

    rewrite(small, parts.MODEL, edit_tensors(spoil))
    assert "has output.weight with values that are infinite or no numbers" in refusal(small)


@pytest.mark.parametrize("name", [WEIGHT, "ngrams.idf"])
@pytest.mark.parametrize("weights", KINDS)
def test_refuses_weights_of_n_grams_that_were_never_seen(tmp_path: Path, weights: str, name: str) -> None:
    folder, module = tmp_path / "small", whole_module()
    folder.mkdir()
    save_checkpoint(folder, module=module, tokenizer=TOKENIZER, trained={}, metrics=METRICS, weights=weights)
    load_checkpoint(folder)
    rewrite(folder, parts.MODEL, edit_tensors(lambda tensors: tensors[name][0].fill_(1)))
    assert f"has {name} with a first row, that of unseen n-grams, other than 0" in refusal(folder)
