"""A step that runs out of memory is taken again with less of it, and ends where one that never failed does."""

import copy
import weakref

import pytest
import torch

from nlp_app.errors import ConfigError
from nlp_app.model import ConvBlock, TextClassifier
from tests.test_training_sharding import TARGETS, batch, distances, make_module
from training.losses import Loss
from training.recipe import Recipe
from training.recompute import recomputes
from training.step import GradientStep, uses_bf16

CPU = torch.device("cpu")
CPU_ERROR = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes. Error code 12"


def make_step(module: TextClassifier, **values: object) -> tuple[GradientStep, list[str]]:
    settings: dict[str, object] = {
        "epochs": 1, "patience": 1, "batch_size": 11, "learning_rate": 0.1, "weight_decay": 0.0, "token_dropout": 0.2,
        "average_decay": 0.9, "seed": 0, "loss": Loss(),
    }  # fmt: skip
    said: list[str] = []
    recipe = Recipe(**(settings | values))  # type: ignore[arg-type]
    return GradientStep(module=module, recipe=recipe, device=CPU, say=said.append), said


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Blocks that run out of memory with more than so many texts, after BatchNorm's buffers have moved."""
    limits: dict[str, object] = {"texts": 99, "error": torch.OutOfMemoryError("CUDA out of memory"), "failures": 0}
    forward = ConvBlock.forward

    def failing(self: ConvBlock, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y = forward(self, x, mask)
        if len(x) > limits["texts"]:  # type: ignore[operator]
            limits["failures"] += 1  # type: ignore[operator]
            torch.rand(3)
            raise limits["error"]  # type: ignore[misc]
        return y

    monkeypatch.setattr(ConvBlock, "forward", failing)
    return limits


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(CPU_ERROR),
        RuntimeError("could not create a primitive"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("blocks", [1, 3])
def test_out_of_memory_splits_the_same_batch_and_the_update_is_the_same(
    no_memory: dict[str, object], error: Exception, blocks: int
) -> None:
    one = make_module(blocks=blocks)
    other = copy.deepcopy(one)
    expected = [make_step(one)[0](batch(), TARGETS, seed=seed) for seed in (1, 2)]
    no_memory |= {"texts": 4, "error": error}
    step, said = make_step(other)
    assert [step(batch(), TARGETS, seed=seed) for seed in (1, 2)] == pytest.approx(expected, rel=1e-12)
    assert max(distances(one, other).values()) < 1e-6
    for (name, buffer), twin in zip(one.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(buffer, twin, rtol=1e-10, atol=1e-12, msg=name)
    assert no_memory["failures"] == 2, "11 texts, then 6; the second step goes on with 3"
    assert said == [
        f"out of memory: from here on each batch is split into parts of {size} texts; the same updates"
        for size in (6, 3)
    ]


def test_weights_after_several_steps_are_those_of_a_run_that_never_failed(no_memory: dict[str, object]) -> None:
    weights = []
    for limit in (99, 5):
        module = make_module(blocks=2)
        no_memory["texts"] = limit
        step, said = make_step(module, loss=Loss(class_weights=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)))
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for seed in range(4):
            step(batch(), TARGETS, seed=seed)
            optimizer.step()
        weights.append(module.state_dict())
        assert bool(said) == (limit == 5)
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-6, atol=1e-9, msg=name)


def test_auto_recomputes_blocks_before_it_splits(no_memory: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    one = make_module(blocks=2)
    other = copy.deepcopy(one)
    make_step(one)[0](batch(), TARGETS, seed=1)
    step, said = make_step(other, gradient_checkpointing="auto")
    recompute = "training.step.recompute_blocks"
    from training.recompute import recompute_blocks

    def relieved(module: TextClassifier) -> None:
        no_memory["texts"] = 99
        recompute_blocks(module)

    monkeypatch.setattr(recompute, relieved)
    no_memory["texts"] = 4
    step(batch(), TARGETS, seed=1)
    assert said == ["out of memory: from here on with gradient checkpointing, and the same updates"]
    assert recomputes(other)
    assert max(distances(one, other).values()) == 0


def test_exact_parts_are_halved_without_a_word_of_blocks_that_they_do_not_recompute(
    no_memory: dict[str, object],
) -> None:
    module = make_module(blocks=2)
    step, said = make_step(module, gradient_checkpointing="auto", micro_batch_size=4)
    no_memory["texts"] = 3
    step(batch(), TARGETS, seed=1)
    assert said == ["out of memory: from here on each batch is split into parts of 2 texts; the same updates"]
    assert not recomputes(module)


def test_fast_parts_recompute_blocks_before_they_are_halved(no_memory: dict[str, object]) -> None:
    module = make_module(blocks=2)
    step, said = make_step(module, gradient_checkpointing="auto", micro_batch_size=4, sharding="fast")
    no_memory["texts"] = 3
    step(batch(), TARGETS, seed=1)
    assert [line.partition("from here on ")[2][:4] for line in said] == ["with", "each"]
    assert recomputes(module)


@pytest.mark.parametrize(
    ("sharding", "blocks", "least", "remedy"),
    [
        ("exact", 1, 1, "lower --max-length, --num-filters, --embedding-dim or --vocab-size"),
        ("fast", 2, 2, "lower --max-length, --num-filters, --embedding-dim or --vocab-size"),
        ("exact", 2, 1, "lower --batch-size, or give --sharding fast, or lower --max-length"),
    ],
)
def test_what_never_fits_is_said(
    no_memory: dict[str, object], sharding: str, blocks: int, least: int, remedy: str
) -> None:
    """With exact parts, what lies between two blocks is kept for the whole batch, however small they are."""
    no_memory["texts"] = 0
    step, _ = make_step(make_module(blocks=blocks), sharding=sharding)
    with pytest.raises(
        ConfigError, match=f"out of memory: not even {least} of 11 texts of 9 tokens fit at once: {remedy}"
    ):
        step(batch(), TARGETS, seed=1)


def test_nothing_of_the_failed_try_is_left_when_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is still held, or still handled, holds the frames of the try and they its tensors."""
    tries: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []
    forward = ConvBlock.forward

    def failing(self: ConvBlock, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        alive.extend(tensor() is not None for tensor in tries)
        y = forward(self, x, mask)
        if len(x) > 6:
            tries.append(weakref.ref(y))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return y

    monkeypatch.setattr(ConvBlock, "forward", failing)
    step, said = make_step(make_module())
    step(batch(), TARGETS, seed=1)
    assert (len(tries), len(said)) == (1, 1)
    assert alive
    assert not any(alive)


def test_other_errors_are_not_taken_for_it(no_memory: dict[str, object]) -> None:
    no_memory |= {"texts": 0, "error": RuntimeError("shapes do not match")}
    with pytest.raises(RuntimeError, match="shapes do not match"):
        make_step(make_module())[0](batch(), TARGETS, seed=1)


@pytest.mark.parametrize(("sharding", "differs"), [("exact", False), ("fast", True)])
def test_micro_batches_draw_what_the_whole_batch_draws(sharding: str, differs: bool) -> None:
    one = make_module()
    other = copy.deepcopy(one)
    whole = make_step(one)[0](batch(), TARGETS, seed=3)
    parts = make_step(other, micro_batch_size=3, sharding=sharding)[0](batch(), TARGETS, seed=3)
    assert (abs(whole - parts) > 1e-6) is differs
    assert (max(distances(one, other).values()) > 1e-6) is differs


def test_no_fast_part_is_a_single_text(no_memory: dict[str, object]) -> None:
    """Which may be a single token, of which BatchNorm takes no variance: 11 texts make 5 parts of 2 or 3."""
    tokens = batch()[:, :1]
    step, _ = make_step(make_module(), micro_batch_size=2, sharding="fast")
    assert step(tokens, TARGETS, seed=1) > 0
    no_memory["texts"] = 4  # and neither is one that was halved, to 6, then 3
    step, said = make_step(make_module(), sharding="fast")
    assert step(tokens, TARGETS, seed=1) > 0
    assert len(said) == 2


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_bf16_computes_in_bfloat16_and_keeps_float32_weights(micro_batch_size: int | None) -> None:
    one, other = make_module().float(), make_module().float()
    loss = make_step(one)[0](batch(), TARGETS, seed=1)
    rounded = make_step(other, precision="bf16", micro_batch_size=micro_batch_size)[0](batch(), TARGETS, seed=1)
    assert rounded == pytest.approx(loss, rel=0.05)
    assert rounded != loss
    for parameter in other.parameters():
        assert parameter.grad is not None
        assert (parameter.dtype, parameter.grad.dtype) == (torch.float32, torch.float32)


def test_auto_precision_is_float32_on_the_cpu() -> None:
    assert [uses_bf16(name, CPU) for name in ("auto", "float32", "bf16")] == [False, False, True]


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_a_step_begins_without_the_gradient_of_the_one_before(micro_batch_size: int | None) -> None:
    module = make_module()
    step, _ = make_step(module, micro_batch_size=micro_batch_size)
    step(batch(), TARGETS, seed=1)
    first = copy.deepcopy(module)
    for parameter, kept in zip(module.parameters(), first.parameters(), strict=True):
        assert parameter.grad is not None
        kept.grad = parameter.grad.clone()
    step(batch(), TARGETS, seed=1)
    assert max(distances(first, module).values()) < 1e-12


def test_compile_is_of_lengths_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile itself is torch's to test, and takes a minute: `python -m benchmarks.precision` runs it."""
    compiled: list[tuple[object, object]] = []

    def compile_(module: TextClassifier, *, dynamic: bool) -> TextClassifier:
        compiled.append((module, dynamic))
        return module

    monkeypatch.setattr(torch, "compile", compile_)
    module = make_module()
    make_step(module)
    assert compiled == []
    step, _ = make_step(module, compile=True)
    step(batch(), TARGETS, seed=1)
    assert compiled == [(module, True)]
