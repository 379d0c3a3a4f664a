import copy
import json

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from nlp_app.config import ModelConfig
from nlp_app.model import TextClassifier
from nlp_app.tokenizer import PAD_ID, UNK_ID
from tests.conftest import LABELS, ROW_LABELS, TEXTS, make_module, make_tokenizer
from tests.test_training_data import examples
from training.batches import Dataset
from training.learner import Learner
from training.recipe import Recipe
from training.step import drop_tokens

TOKENIZER = make_tokenizer()
CONFIG = ModelConfig(labels=LABELS, vocab_size=TOKENIZER.vocab_size, max_length=16)
DATA = Dataset.of(examples(ROW_LABELS * 5, TEXTS * 5), tokenizer=TOKENIZER, config=CONFIG)
RECIPE = Recipe(
    epochs=3,
    patience=2,
    batch_size=8,
    learning_rate=0.01,
    weight_decay=0.01,
    token_dropout=0.1,
    average_decay=0.99,
    seed=0,
)
CPU = torch.device("cpu")


def make_learner(**values: object) -> Learner:
    recipe = Recipe(**{**RECIPE.__dict__, **values})
    return Learner(module=make_module(TOKENIZER, dropout=0.25), recipe=recipe, device=CPU, texts=len(DATA))


def run(learner: Learner, *epochs: int) -> list[float]:
    return [learner.advance(DATA, to=epoch * learner.steps_per_epoch, on_step=lambda *_: None) for epoch in epochs]


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_loss_falls() -> None:
    losses = run(make_learner(), *range(1, 16))
    assert losses[-1] < losses[0] / 2


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, same, other = make_learner(), make_learner(), make_learner(seed=1)
    for learner in (one, same, other):
        run(learner, 1, 2)
        torch.rand(3)  # what else draws chance in between must not matter
    assert_same(one.averaged, same.averaged)
    assert not torch.equal(one.averaged.output.weight, other.averaged.output.weight)


def test_goes_on_from_saved_state_to_the_very_same_weights() -> None:
    unbroken, broken = make_learner(), make_learner()
    run(unbroken, 1, 2, 3)
    run(broken, 1)
    tensors = safetensors.torch.load(safetensors.torch.save(broken.tensors()))
    values = json.loads(json.dumps(broken.values()))
    torch.manual_seed(12345)
    resumed = make_learner()
    resumed.restore(tensors, values)
    run(resumed, 2, 3)
    assert_same(unbroken.module, resumed.module)
    assert_same(unbroken.average, resumed.average)
    assert json.dumps(unbroken.values()) == json.dumps(resumed.values())
    for key, tensor in unbroken.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[key]), key


def test_the_rate_warms_up_and_stays() -> None:
    learner = make_learner()
    rates = []
    for epoch in range(1, 20):
        rates.append(learner.optimizer.param_groups[0]["lr"])
        run(learner, epoch)
    assert rates[0] == pytest.approx(0.001)
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.01)


def test_the_average_is_the_mean_that_its_formula_says() -> None:
    learner = make_learner(average_decay=0.9)
    name = "output.weight"
    expected: torch.Tensor | None = None
    for step, rows in enumerate([[0, 1, 2], [3, 4, 5], [6, 7, 8]]):
        learner._take_step(*DATA.batch(torch.tensor(rows).numpy()))
        current = learner.module.state_dict()[name].clone()
        weight = 1 - min(0.9, (1 + step) / (10 + step))
        expected = current if expected is None else torch.lerp(expected, current, weight)
    assert expected is not None
    torch.testing.assert_close(learner.averaged.state_dict()[name], expected)


def test_vectors_do_not_decay() -> None:
    learner = make_learner()
    decayed, kept = learner.optimizer.param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.01, 0.0)
    assert {parameter.ndim for parameter in kept["params"]} == {1}
    assert 1 not in {parameter.ndim for parameter in decayed["params"]}


def test_an_embedding_of_vectors_is_trained_at_a_lower_rate_and_goes_on_at_it() -> None:
    learner, again, plain = (make_learner(embedding_rate=rate) for rate in (0.1, 0.1, 1.0))
    decayed, _, apart = learner.optimizer.param_groups
    assert [parameter.shape for parameter in apart["params"]] == [learner.module.embedding.weight.shape]
    assert apart["lr"] == pytest.approx(decayed["lr"] / 10)
    assert sum(map(len, (group["params"] for group in learner.optimizer.param_groups))) == len(
        list(learner.module.parameters())
    )
    before = learner.module.embedding.weight.detach().clone()
    for one in (learner, plain):
        one.advance(DATA, to=3, on_step=lambda *_: None)
    moved, more = ((one.module.embedding.weight - before).abs().max().item() for one in (learner, plain))
    assert moved < more / 5
    again.restore({name: tensor.clone() for name, tensor in learner.tensors().items()}, learner.values())
    for one in (learner, again):
        one.advance(DATA, to=6, on_step=lambda *_: None)
    assert torch.equal(learner.module.embedding.weight, again.module.embedding.weight)
    assert len(make_learner(embedding_rate=0.1, freeze=("embedding",)).optimizer.param_groups) == 2


def test_an_epoch_takes_the_last_partial_batch_too() -> None:
    steps: list[int] = []
    learner = make_learner()
    learner.advance(DATA, to=4, on_step=lambda step, _: steps.append(step))
    assert steps == [1, 2, 3, 4]  # 30 texts in batches of 8
    assert learner.epoch == 1


def test_a_step_is_the_one_that_torch_would_take() -> None:
    """Against a plain loop: forward, cross-entropy, backward, AdamW."""
    learner = make_learner(token_dropout=0.0)
    learner.module.dropout.p = 0.0
    reference = copy.deepcopy(learner.module)
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.001, weight_decay=0.0)
    learner.optimizer.param_groups[0]["weight_decay"] = 0.0
    learner.module.train()
    reference.train()
    input_ids, targets = DATA.batch(torch.arange(6).numpy())
    F.cross_entropy(reference(input_ids), targets).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    learner._take_step(input_ids, targets)
    for (name, one), other in zip(reference.named_parameters(), learner.module.parameters(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_dropped_tokens_become_unk_and_padding_never() -> None:
    input_ids = torch.tensor([[5] * 900 + [PAD_ID] * 100] * 4)
    torch.manual_seed(0)
    dropped = drop_tokens(input_ids, 0.25)
    assert set(dropped.flatten().tolist()) == {PAD_ID, UNK_ID, 5}
    assert torch.equal(dropped == PAD_ID, input_ids == PAD_ID)
    assert (dropped == UNK_ID).float().mean().item() == pytest.approx(0.25 * 0.9, abs=0.03)
    assert torch.equal(drop_tokens(input_ids, 0.0), input_ids)


def test_the_averaged_module_is_in_evaluation_and_apart_from_the_trained_one() -> None:
    learner = make_learner()
    assert isinstance(learner.averaged, TextClassifier)
    assert not learner.averaged.training
    assert learner.averaged.output.weight.data_ptr() != learner.module.output.weight.data_ptr()
