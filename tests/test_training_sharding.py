"""A batch in parts has the gradient of the whole batch, BatchNorm included."""

import copy

import pytest
import torch
from torch import Tensor, nn

from nlp_app.config import ModelConfig
from nlp_app.model import ConvBlock, TextClassifier
from nlp_app.tokenizer import PAD_ID
from training.exact import backward_exact
from training.losses import Loss
from training.sharding import Parts, backward_fast, backward_whole, split

WEIGHTS = torch.tensor([1.0, 3.0, 0.2], dtype=torch.float64)
LENGTHS = (9, 1, 4, 7, 2, 1, 9, 3, 5, 8, 6)
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2, 2, 1, 0, 0, 2])


def make_module(*, loss: str = "cross-entropy", blocks: int = 1, dropout: float = 0.5) -> TextClassifier:
    config = ModelConfig(
        labels=("a", "b", "c"), vocab_size=40, embedding_dim=6, num_filters=4, kernel_sizes=(1, 2, 3),
        num_blocks=blocks, dropout=dropout, output="log_probabilities" if loss == "nll" else "logits",
    )  # fmt: skip
    torch.manual_seed(7)
    module = TextClassifier(config=config).double()
    for name, parameter in module.named_parameters():
        if "norm" in name:
            nn.init.uniform_(parameter, -1.5, 1.5)
    return module.train()


def batch() -> Tensor:
    torch.manual_seed(8)
    rows = torch.full((len(LENGTHS), 9), PAD_ID)
    for row, length in zip(rows, LENGTHS, strict=True):
        row[:length] = torch.randint(2, 40, (length,))
    return rows


def whole(module: TextClassifier, loss: Loss) -> float:
    torch.manual_seed(9)
    return backward_whole(module, loss, batch(), TARGETS)


def in_parts(module: TextClassifier, loss: Loss, size: int, *, exact: bool) -> float:
    torch.manual_seed(9)
    slices = split(len(LENGTHS), size)
    parts = Parts(module=module, loss=loss, input_ids=batch(), targets=TARGETS, slices=slices)
    return backward_exact(parts) if exact else backward_fast(parts)


def distances(one: nn.Module, other: nn.Module) -> dict[str, float]:
    """Of each parameter's gradient, relative to its norm."""
    found = {}
    for (name, parameter), twin in zip(one.named_parameters(), other.parameters(), strict=True):
        assert parameter.grad is not None
        assert twin.grad is not None
        found[name] = ((parameter.grad - twin.grad).norm() / parameter.grad.norm()).item()
    return found


@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 3, 4, 10])
@pytest.mark.parametrize(
    "loss",
    [
        Loss(),
        Loss(class_weights=WEIGHTS, label_smoothing=0.1),
        Loss(name="nll", class_weights=WEIGHTS, focal_gamma=1.5),
    ],
    ids=["plain", "weights", "nll"],
)
def test_exact_parts_have_the_gradient_of_the_whole_batch(blocks: int, size: int, loss: Loss) -> None:
    one = make_module(loss=loss.name, blocks=blocks)
    other = copy.deepcopy(one)
    assert in_parts(other, loss, size, exact=True) == pytest.approx(whole(one, loss), rel=1e-12)
    assert max(distances(one, other).values()) < 1e-6
    for (name, buffer), twin in zip(one.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(buffer, twin, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("blocks", [1, 3])
def test_exact_parts_take_the_same_steps(blocks: int) -> None:
    one = make_module(blocks=blocks)
    other = copy.deepcopy(one)
    for module, step in ((one, whole), (other, lambda m, loss: in_parts(m, loss, 4, exact=True))):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad()
            step(module, Loss(class_weights=WEIGHTS))
            optimizer.step()
    for (name, tensor), twin in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, twin, rtol=1e-6, atol=1e-9, msg=name)
    assert not torch.equal(one.output.weight, make_module(blocks=blocks).output.weight)


def test_fast_parts_are_another_update_by_their_batch_norm_alone() -> None:
    one = make_module()
    other = copy.deepcopy(one)
    whole(one, Loss())
    in_parts(other, Loss(), 4, exact=False)
    assert distances(one, other)["blocks.0.convolutions.1.weight"] > 0.05
    for module in (one, other):  # with a BatchNorm that does nothing they agree
        module.zero_grad()
        block = module.blocks[0]
        assert isinstance(block, ConvBlock)
        block.norm[0] = nn.Identity()
    assert in_parts(other, Loss(class_weights=WEIGHTS), 4, exact=False) == pytest.approx(
        whole(one, Loss(class_weights=WEIGHTS)), rel=1e-12
    )
    assert max(distances(one, other).values()) < 1e-10


@pytest.mark.parametrize("exact", [True, False])
def test_a_frozen_embedding_gets_no_gradient(exact: bool) -> None:
    module = make_module(blocks=2)
    module.embedding.requires_grad_(False)
    in_parts(module, Loss(), 4, exact=exact)
    assert module.embedding.weight.grad is None
    assert module.blocks[0].convolutions[0].weight.grad is not None  # type: ignore[union-attr,index]


def test_padding_gets_no_gradient_and_the_module_is_left_as_it_was() -> None:
    module = make_module(blocks=2)
    names = [name for name, _ in module.named_modules()]
    in_parts(module, Loss(), 4, exact=True)
    assert module.embedding.weight.grad is not None
    assert module.embedding.weight.grad[PAD_ID].abs().sum() == 0
    assert [name for name, _ in module.named_modules()] == names
    assert "BatchNorm1d" in str(module.blocks[0])
    assert "GivenNorm" not in str(module)


@pytest.mark.parametrize(
    ("texts", "size", "at_least", "sizes"),
    [
        (64, 8, 1, [8] * 8),
        (9, 4, 1, [3, 3, 3]),
        (11, 4, 1, [3, 4, 4]),
        (3, 2, 1, [1, 2]),
        (3, 2, 2, [3]),
        (5, 2, 2, [2, 3]),
        (5, 9, 1, [5]),
        (1, 1, 1, [1]),
        (1, 4, 2, [1]),
    ],
)
def test_parts_are_as_equal_as_they_can_be(texts: int, size: int, at_least: int, sizes: list[int]) -> None:
    parts = split(texts, size, at_least=at_least)
    assert [part.stop - part.start for part in parts] == sizes
    assert (parts[0].start, parts[-1].stop) == (0, texts)
