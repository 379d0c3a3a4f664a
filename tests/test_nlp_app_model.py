import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from nlp_app.config import ModelConfig
from nlp_app.model import ConvBlock, TextClassifier, max_over_time
from nlp_app.tokenizer import PAD_ID

LABELS = ("a", "b", "c", "d")
LENGTHS = (1, 2, 3, 7, 12, 20)


def make_config(**values: object) -> ModelConfig:
    settings: dict[str, object] = {"embedding_dim": 8, "num_filters": 6, "kernel_sizes": (1, 2, 3, 4), "num_blocks": 3}
    return ModelConfig(labels=LABELS, vocab_size=50, **(settings | values))  # type: ignore[arg-type]


def make_module(config: ModelConfig) -> TextClassifier:
    """A module whose BatchNorms have seen data and have scales and shifts of their own, so that padding could leak."""
    torch.manual_seed(1)
    module = TextClassifier(config=config)
    for name, parameter in module.named_parameters():
        if "norm" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    module.train()
    for _ in range(10):
        module(padded(LENGTHS))
    return module.eval()


def padded(lengths: tuple[int, ...], width: int = 0) -> Tensor:
    rows = torch.full((len(lengths), width or max(lengths)), PAD_ID)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(2, 50, (length,))
    return rows


def real_tokens(x: Tensor, mask: Tensor) -> Tensor:
    return x.transpose(1, 2)[mask]


def assert_same_logits(one: Tensor, other: Tensor) -> None:
    assert ((one - other).abs() <= 1e-5 * one.abs().clamp(min=1)).all(), (one - other).abs().max()


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_padding_and_neighbours_never_change_an_answer(num_blocks: int) -> None:
    module = make_module(make_config(num_blocks=num_blocks))
    batch = padded(LENGTHS, width=24)
    with torch.inference_mode():
        together = module(batch)
        for row, length in enumerate(LENGTHS):
            assert_same_logits(module(batch[row : row + 1, :length]), together[row : row + 1])


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_padding_never_changes_a_training_step(num_blocks: int) -> None:
    narrow = make_module(make_config(num_blocks=num_blocks, dropout=0.0)).train()
    wide = copy.deepcopy(narrow)
    batch = padded(LENGTHS)
    for module, input_ids in ((narrow, batch), (wide, nn.functional.pad(batch, (0, 9), value=PAD_ID))):
        module(input_ids).square().mean().backward()
    for (name, one), other in zip(narrow.named_parameters(), wide.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    for name, buffer in narrow.named_buffers():
        torch.testing.assert_close(buffer, wide.get_buffer(name))


def test_batch_norm_sees_the_real_tokens_alone() -> None:
    """A block in training equals torch's own BatchNorm1d fed with the convolved real tokens as rows."""
    torch.manual_seed(0)
    block = ConvBlock(in_channels=3, num_filters=2, kernel_sizes=(1, 3)).double().train()
    reference = copy.deepcopy(block.norm)
    mask = torch.arange(9) < torch.tensor([[9], [1], [4], [6]])
    x = torch.randn(4, 3, 9, dtype=torch.float64).masked_fill(~mask.unsqueeze(1), 0.0)
    convolved = torch.cat([convolution(x) for convolution in block.convolutions], dim=1)
    expected = reference(real_tokens(convolved, mask))
    y = block(x, mask)
    torch.testing.assert_close(real_tokens(y, mask), expected)
    assert not y.masked_fill(mask.unsqueeze(1), 0.0).any()
    for name, buffer in reference.named_buffers():
        torch.testing.assert_close(block.norm.get_buffer(name), buffer)


def test_in_evaluation_a_block_gives_what_its_training_path_would_with_the_same_statistics() -> None:
    module = make_module(make_config())
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    block = next(iter(module.blocks))
    assert isinstance(block, ConvBlock)
    x = torch.randn(2, 8, 5).masked_fill(~mask.unsqueeze(1), 0.0)
    dense = block(x, mask)
    block.training = True  # the block's own path, while its BatchNorm stays in evaluation
    torch.testing.assert_close(block(x, mask), dense)


def test_batch_norm_needs_two_tokens() -> None:
    block = ConvBlock(in_channels=1, num_filters=1, kernel_sizes=(1,))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        block(torch.ones(1, 1, 3), torch.tensor([[True, False, False]]))


def test_a_block_worked_out_by_hand() -> None:
    block = ConvBlock(in_channels=1, num_filters=1, kernel_sizes=(1, 2)).eval()
    one, two = block.convolutions.parameters()
    with torch.no_grad():
        one.copy_(torch.tensor([[[2.0]]]))
        two.copy_(torch.tensor([[[1.0, -1.0]]]))  # the token before minus the token
    x = torch.tensor([[[1.0, 5.0, 2.0, 0.0]]])
    mask = torch.tensor([[True, True, True, False]])
    norm = block.norm[0]
    assert isinstance(norm, nn.BatchNorm1d)
    norm.eps = 0.0
    assert block(x, mask).tolist() == [[[2.0, 10.0, 4.0, 0.0], [0.0, 0.0, 3.0, 0.0]]]


def test_a_second_block_adds_its_input() -> None:
    block = ConvBlock(in_channels=2, num_filters=1, kernel_sizes=(1, 3), residual=True).eval()
    for parameter in block.convolutions.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 2, 4)
    assert torch.equal(block(x, torch.ones(1, 4, dtype=torch.bool)), x)


def test_max_over_time_looks_at_real_tokens_only() -> None:
    x = torch.tensor([[[-3.0, -1.0, 9.0]]])
    assert max_over_time(x, torch.tensor([[True, True, False]])).tolist() == [[-1.0]]


def test_convolutions_before_batch_norm_have_no_bias() -> None:
    module = TextClassifier(config=make_config())
    biases = [name for name, _ in module.named_parameters() if name.endswith("bias")]
    assert biases == [f"blocks.{block}.norm.0.bias" for block in range(3)] + ["output.bias"]


def test_the_embedding_of_padding_is_zero_and_stays_so() -> None:
    module = TextClassifier(config=make_config()).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(3):
        module(padded(LENGTHS)).sum().backward()
        optimizer.step()
    assert not module.embedding.weight[PAD_ID].any()


def test_is_made_of_the_layers_that_it_is_named_for() -> None:
    kinds = {type(module) for module in TextClassifier(config=make_config()).modules()}
    assert {nn.Embedding, nn.Sequential, nn.Conv1d, nn.BatchNorm1d, nn.ReLU, nn.Dropout, nn.Linear} <= kinds


def test_gives_one_logit_a_class() -> None:
    assert make_module(make_config())(padded((3, 5))).shape == (2, len(LABELS))


def test_the_first_block_adds_nothing_even_where_the_embedding_is_as_wide_as_its_output() -> None:
    config = make_config(embedding_dim=24, num_blocks=2)
    assert [block.residual for block in make_module(config).blocks] == [False, True]


def test_log_probabilities_are_the_log_softmax_of_the_same_logits() -> None:
    config = make_config()
    one, other = make_module(config), make_module(replace(config, output="log_probabilities"))
    other.load_state_dict(one.state_dict())
    input_ids = torch.tensor([[2, 3, 4], [5, PAD_ID, PAD_ID]])
    assert torch.equal(one(input_ids), one.logits(input_ids))
    assert torch.equal(other.logits(input_ids), one.logits(input_ids))
    assert torch.equal(other(input_ids), torch.log_softmax(one(input_ids), dim=1))
