"""Gradient checkpointing changes nothing but memory and time: checked on the whole state, bit for bit."""

import copy

import pytest
import torch
from torch import Tensor, nn

from nlp_app.config import ModelConfig
from nlp_app.model import ConvBlock, TextClassifier
from training.recompute import RecomputedStack, recompute_blocks, recomputes

STEPS = 6


class NoisyBlock(ConvBlock):
    """A block with dropout inside, which must be drawn the same twice."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x, mask), 0.3, training=self.training)


def make_module(blocks: int, noisy: bool = False) -> TextClassifier:
    config = ModelConfig(
        labels=("a", "b", "c"), vocab_size=40, embedding_dim=6, num_filters=4, kernel_sizes=(1, 2, 3), num_blocks=blocks
    )
    torch.manual_seed(7)
    module = TextClassifier(config=config)
    for block in module.blocks if noisy else ():
        block.__class__ = NoisyBlock
    return module


def states(module: TextClassifier) -> list[dict[str, Tensor]]:
    """The whole state after each step."""
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    torch.manual_seed(1)
    input_ids, targets = torch.randint(2, 40, (STEPS, 8, 9)), torch.randint(3, (STEPS, 8))
    input_ids[:, ::2, 5:] = 0
    found = []
    for ids, target in zip(input_ids, targets, strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(ids), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
    return found


@pytest.mark.parametrize(("blocks", "segment"), [(1, 1), (4, 1), (4, 2), (4, 3), (4, 4), (5, None)])
@pytest.mark.parametrize("noisy", [False, True])
def test_the_whole_state_is_that_of_the_plain_run_after_every_step(
    blocks: int, segment: int | None, noisy: bool
) -> None:
    plain = make_module(blocks, noisy)
    recomputed = copy.deepcopy(plain)
    recompute_blocks(recomputed, segment=segment)
    for step, (one, other) in enumerate(zip(states(plain), states(recomputed), strict=True), start=1):
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name]), f"{name} after step {step}"
    assert one["blocks.0.norm.0.num_batches_tracked"] == STEPS


def test_what_is_inside_a_segment_is_not_kept() -> None:
    def kept(module: TextClassifier) -> int:
        total = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            module.train()(torch.randint(2, 40, (16, 32)))
        return total

    plain, recomputed = make_module(16), make_module(16)
    recompute_blocks(recomputed)
    assert recomputes(recomputed)
    assert not recomputes(plain)
    assert kept(recomputed) < 0.3 * kept(plain)


def test_blocks_that_need_no_gradient_at_their_input_still_get_one() -> None:
    """With torch's default, use_reentrant=True, they would get none."""
    module = make_module(2)
    module.embedding.requires_grad_(False)
    recompute_blocks(module)
    module.train()(torch.randint(2, 40, (4, 5))).sum().backward()
    assert module.blocks[0].convolutions[0].weight.grad is not None  # type: ignore[union-attr,index]


def test_scoring_recomputes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_module(3).eval()
    recomputed = copy.deepcopy(plain)
    recompute_blocks(recomputed)
    input_ids = torch.randint(2, 40, (4, 5))
    expected = plain(input_ids)
    monkeypatch.setattr("training.recompute.checkpoint", None)
    with torch.inference_mode():
        assert torch.equal(recomputed(input_ids), expected)
    assert isinstance(copy.deepcopy(recomputed).blocks, RecomputedStack)
