"""A batch in two processes has the gradient of the whole one, BatchNorm included; in float64."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from tests.test_training_sharding import TARGETS, WEIGHTS, batch, make_module
from training.joint import join
from training.learner import Learner
from training.losses import Loss
from training.ranks import Ranks
from training.recipe import Recipe
from training.synced import SyncedNorm

SPLITS = {"unequal": 17, "empty": 23, "single": 1}
"""Of 23 rows, how many the first process has."""
CASES = {"one block": (1, 11), "two blocks": (2, 11), "one text": (2, 1)}
"""Blocks, and texts of the batch."""
SIZE = 2


def norm_and_rows() -> tuple[nn.BatchNorm1d, Tensor, Tensor]:
    """A BatchNorm, rows far from zero, where squares of sums would cancel, and the gradient of its output."""
    torch.manual_seed(3)
    norm = nn.BatchNorm1d(5).double()
    nn.init.uniform_(norm.weight, -1.5, 1.5)
    nn.init.uniform_(norm.bias, -1.5, 1.5)
    rows = 1e6 + torch.randn(23, 5, dtype=torch.float64)
    return norm, rows, torch.randn(23, 5, dtype=torch.float64)


def normed(norm: nn.BatchNorm1d, rows: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    rows = rows.clone().requires_grad_()
    output = norm(rows)
    output.backward(gradient)
    assert rows.grad is not None
    return {"output": output.detach(), "rows": rows.grad, **gradients(norm), **dict(norm.named_buffers())}


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def stepped(blocks: int, texts: int, ranks: Ranks) -> dict[str, Tensor]:
    """What a step leaves on a module after another one, of the learner of a process among others or of one alone."""
    recipe = Recipe(
        epochs=1, batch_size=11, learning_rate=0.01, weight_decay=0.0, token_dropout=0.2, average_decay=0.9, seed=0,
        patience=1, loss=Loss(class_weights=WEIGHTS, label_smoothing=0.1),
    )  # fmt: skip
    learner = Learner(module=make_module(blocks=blocks), recipe=recipe, device=torch.device("cpu"), texts=11)
    if not ranks.first:
        nn.init.ones_(learner.module.embedding.weight)  # it starts from rank 0's weights all the same
    join(learner, ranks)
    learner.module.train()
    learner.gradient_step(torch.tensor([[7, 8, 9], [9, 10, 11]]), TARGETS[:2], seed=3)  # of which nothing is left
    ids = batch()[-texts:]
    loss = learner.gradient_step(ids, TARGETS[-texts:], seed=4)
    found = {**gradients(learner.module), **dict(learner.module.named_buffers()), "loss": torch.tensor(loss)}
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def work(rank: int, folder: Path) -> None:
    """What each process does; it leaves what it found in a file."""
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=SIZE)
    found = {}
    for name, first in SPLITS.items():
        norm, rows, gradient = norm_and_rows()
        own = slice(first) if rank == 0 else slice(first, None)
        found[name] = normed(SyncedNorm(norm), rows[own], gradient[own])
    ranks = Ranks(rank=rank, size=SIZE)
    for name, (blocks, texts) in CASES.items():
        found[name] = stepped(blocks, texts, ranks)
    flat = {f"{name}|{key}": tensor for name, tensors in found.items() for key, tensor in tensors.items()}
    safetensors.torch.save_file(flat, folder / f"{rank}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("ranks")
    context = mp.spawn(work, args=(folder,), nprocs=SIZE, join=False)  # type: ignore[attr-defined, no-untyped-call]
    try:
        assert any(context.join(timeout=900) for _ in range(SIZE)), "the processes hung"
    finally:
        for process in context.processes:
            process.kill()
    return [safetensors.torch.load_file(folder / f"{rank}.safetensors") for rank in range(SIZE)]


@pytest.mark.parametrize("split", SPLITS)
def test_batchnorm_is_that_of_all_rows(split: str, of_ranks: list[dict[str, Tensor]]) -> None:
    expected = normed(*norm_and_rows())
    for name, tensor in expected.items():
        parts = [found[f"{split}|{name}"] for found in of_ranks]
        if name in ("output", "rows"):
            together = torch.cat(parts)
        elif name in ("weight", "bias"):  # of the parameters each has its share
            together = parts[0] + parts[1]
        else:
            together = parts[0]
            assert torch.equal(parts[0], parts[1]), name
        torch.testing.assert_close(together, tensor, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_joint_step_has_the_gradient_of_the_whole_batch(case: str, of_ranks: list[dict[str, Tensor]]) -> None:
    for name, tensor in stepped(*CASES[case], Ranks()).items():
        for found in of_ranks:
            torch.testing.assert_close(found[f"{case}|{name}"], tensor, rtol=1e-9, atol=1e-11, msg=name)


def test_in_evaluation_it_is_a_plain_batchnorm() -> None:
    norm, rows, _ = norm_and_rows()
    synced = SyncedNorm(norm).eval()
    assert synced.state_dict().keys() == norm.state_dict().keys()
    assert torch.equal(synced(rows), norm.eval()(rows))
