import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nlp_app.errors import ConfigError
from training.losses import LOSSES, OUTPUT_OF, Loss, class_weights

TARGETS = torch.tensor([0, 2, 1, 2, 2, 0, 1])
WEIGHTS = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64)


def logits() -> Tensor:
    torch.manual_seed(3)
    return (3 * torch.randn(7, 3, dtype=torch.float64)).requires_grad_()


def value_and_gradient(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    output = torch.log_softmax(x, dim=1) if OUTPUT_OF[loss.name] == "log_probabilities" else x
    value = loss(output, TARGETS)
    return value.detach(), torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_both_losses_have_the_same_value_and_gradient(weights: Tensor | None, gamma: float) -> None:
    values, gradients = zip(
        *(value_and_gradient(Loss(name=name, focal_gamma=gamma, class_weights=weights), logits()) for name in LOSSES),
        strict=True,
    )
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-12)
    assert gradients[0].abs().sum() > 0.1


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_mean(weights: Tensor | None, smoothing: float) -> None:
    x = logits()
    loss = Loss(label_smoothing=smoothing, class_weights=weights)
    expected = F.cross_entropy(x, TARGETS, weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss(x, TARGETS), expected, rtol=1e-12, atol=0)


def test_focal_loss_by_hand() -> None:
    """Two classes at p = 0.8 and 0.25, gamma 2: 0.04 * 0.2231 and 0.5625 * 1.3863."""
    x = torch.tensor([[math.log(4), 0.0], [math.log(3), 0.0]], dtype=torch.float64)
    loss = Loss(focal_gamma=2.0)(x, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx((0.2**2 * -math.log(0.8) + 0.75**2 * -math.log(0.25)) / 2, rel=1e-9)


def test_focal_loss_of_a_certain_answer_has_a_finite_slope() -> None:
    x = torch.tensor([[200.0, 0.0]], requires_grad=True)
    Loss(focal_gamma=0.5)(x, torch.tensor([0])).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("options", [{"class_weights": WEIGHTS}, {"label_smoothing": 0.2}, {"focal_gamma": 1.0}, {}])
def test_parts_add_up_to_the_batch(options: dict[str, object]) -> None:
    x, loss = logits(), Loss(**options)  # type: ignore[arg-type]
    parts = sum(loss.total(x[part], TARGETS[part]) for part in (slice(0, 3), slice(3, 4), slice(4, 7)))
    torch.testing.assert_close(parts / loss.divisor(TARGETS), loss(x, TARGETS))
    means = sum(loss(x[part], TARGETS[part]) for part in (slice(0, 3), slice(3, 7))) / 2
    assert (means - loss(x, TARGETS)).abs() > 1e-3, "a mean of means is another loss"


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    weights = class_weights(["balanced"], ("a", "b", "c"), TARGETS)
    torch.testing.assert_close(weights, torch.tensor([7 / 6, 7 / 6, 7 / 9]))
    assert class_weights([], ("a", "b", "c"), TARGETS) is None


def test_weights_are_given_in_order_or_by_label() -> None:
    labels = ("a", "b=c")
    expected = torch.tensor([1.0, 2.5])
    assert torch.equal(class_weights(["1", "2.5"], labels, TARGETS), expected)  # type: ignore[arg-type]
    assert torch.equal(class_weights(["b=c=2.5", "a=1"], labels, TARGETS), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["1", "2"], "--class-weights got 2, but takes balanced, 3 numbers in the order a, b, c, or LABEL=NUMBER"),
        (["1", "2", "3", "4"], "--class-weights got 4, but takes balanced, 3 numbers"),
        (["even"], "--class-weights got 'even', but takes balanced"),
        (["1", "-2", "3"], "--class-weights has '-2', but a weight must be a number above 0"),
        (["1", "0", "3"], "--class-weights has '0', but a weight must be"),
        (["1", "nan", "3"], "--class-weights has 'nan', but a weight must be"),
        (["a=1", "b=-1", "c=1"], "--class-weights has 'b=-1', but a weight must be a number above 0"),
        (["a=1", "b=x", "c=1"], "--class-weights has 'b=x', but a weight must be"),
        (["1", "1e-46", "3"], "--class-weights has '1e-46', but a weight must be a number above 0"),
        (["1", "1e39", "3"], "--class-weights has '1e39', but a weight must be a number above 0"),
        (["-1", "2"], "--class-weights has '-1', but a weight must be a number above 0"),
        (["balanced", "2"], "--class-weights got 'balanced 2', but balanced stands alone: leave the rest out"),
        (["a=1", "b=2", "a=3"], "--class-weights names 'a' more than once: give each label one weight"),
        (["a=1", "b=2"], "--class-weights lacks 'c': every one of the 3 labels needs a weight"),
        (["a=1", "b=2", "d=3"], "--class-weights names 'd', which is no label of the training texts"),
    ],
)
def test_refuses_weights_that_are_not_one_for_each_class(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        class_weights(given, ("a", "b", "c"), TARGETS)
    assert message in str(error.value)


def test_refuses_what_a_loss_does_not_have() -> None:
    with pytest.raises(ConfigError, match="--label-smoothing needs --loss cross-entropy"):
        Loss(name="nll", label_smoothing=0.1)
    with pytest.raises(ConfigError, match="--label-smoothing and --focal-gamma exclude each other"):
        Loss(label_smoothing=0.1, focal_gamma=2.0)
