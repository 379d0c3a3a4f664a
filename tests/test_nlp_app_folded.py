"""A folded module gives the logits of the module."""

import pytest
import torch

from nlp_app import folded
from nlp_app.folded import FoldedClassifier, fold
from nlp_app.model import TextClassifier
from nlp_app.tokenizer import PAD_ID
from tests.conftest import TEXTS, make_module, make_tokenizer

TOKENIZER = make_tokenizer()
IDS = torch.from_numpy(TOKENIZER.encode_batch([*TEXTS, "snow", "", "the unknown"], max_length=32))


def shaken(module: TextClassifier) -> TextClassifier:
    """With scales of BatchNorm of either sign, as after long training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.blocks.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return module


@pytest.mark.parametrize("kernel_sizes", [(1,), (2, 3), (5, 1, 4), (40,)])
@pytest.mark.parametrize("num_blocks", [1, 3])
def test_a_folded_module_gives_the_same_logits(kernel_sizes: tuple[int, ...], num_blocks: int) -> None:
    module = shaken(make_module(TOKENIZER, kernel_sizes=kernel_sizes, num_blocks=num_blocks))
    found = fold(module)
    assert isinstance(found, FoldedClassifier)
    with torch.inference_mode():
        expected = module.logits(IDS)
        assert torch.allclose(found.logits(IDS), expected, rtol=1e-5, atol=1e-5)
        for row in range(len(IDS)):
            alone = IDS[row : row + 1, : int((IDS[row] != PAD_ID).sum())]
            assert torch.allclose(found.logits(alone)[0], expected[row], rtol=1e-5, atol=1e-5)


def test_what_would_take_too_much_memory_is_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_module(TOKENIZER)
    monkeypatch.setattr(folded, "MOST_FLOATS", 100)
    assert fold(module) is module


def test_folding_changes_nothing_in_the_module() -> None:
    module = make_module(TOKENIZER)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fold(module).logits(IDS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
