import math

import pytest
import torch
import torch.nn.functional as F

from training.calibration import MANY_TEXTS, PRIOR, Calibration, brier_score, calibrate, calibration_error, prior, top


def drawn(scales: tuple[float, ...], texts: int = 4000) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Parts whose logits times these scales are the truth."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(texts, 4, generator=generator) for _ in scales]
    truth = torch.stack([scale * part for scale, part in zip(scales, parts, strict=True)]).sum(dim=0)
    targets = torch.multinomial(torch.softmax(truth, dim=1), 1, generator=generator).squeeze(1)
    return parts, targets


@pytest.mark.parametrize("scales", [(2.0,), (0.4,), (0.5, 3.0), (1.5, 0.2)])
def test_finds_the_scales_that_the_labels_were_drawn_by(scales: tuple[float, ...]) -> None:
    parts, targets = drawn(scales)
    found = calibrate(parts, targets)
    assert found.scales == pytest.approx(scales, rel=0.15, abs=0.05)
    assert found.offset == 0
    assert calibration_error(torch.softmax(found(parts), dim=1), targets) < 0.03
    assert calibration_error(torch.softmax(5 * found(parts), dim=1), targets) > 0.1


def test_no_other_scale_is_likelier() -> None:
    parts, targets = drawn((0.8, 1.7), texts=300)
    found = calibrate(parts, targets)
    best = F.cross_entropy(found(parts), targets)
    for other in ((0.9, 1.0), (1.1, 1.0), (1.0, 0.9), (1.0, 1.1)):
        scales = tuple(scale * factor for scale, factor in zip(found.scales, other, strict=True))
        assert F.cross_entropy(Calibration(scales=scales)(parts), targets) > best - 1e-3


def test_several_labels_have_an_offset_too() -> None:
    generator = torch.Generator().manual_seed(0)
    part = torch.randn(4000, 3, generator=generator)
    targets = (torch.rand(part.shape, generator=generator) < torch.sigmoid(3 * part - 1)).float()
    found = calibrate([part], targets)
    assert found.scales == pytest.approx((3.0,), rel=0.1)
    assert found.offset == pytest.approx(-1, abs=0.1)


def test_a_single_text_gives_finite_scales() -> None:
    found = calibrate([torch.tensor([[9.0, -9.0]]), torch.tensor([[1.0, 0.0]])], torch.tensor([0]))
    assert all(0.1 < scale < 10 for scale in found.scales)


def test_a_convolution_of_few_texts_says_little_unless_many_held_out_texts_say_otherwise() -> None:
    assert prior(MANY_TEXTS) == prior(10 * MANY_TEXTS) == PRIOR
    assert prior(MANY_TEXTS // 100) == pytest.approx((PRIOR[0] / 10, PRIOR[1]))
    loud = [torch.tensor([[9.0, -9.0]]), torch.tensor([[-0.1, 0.1]])]
    few, many = (calibrate(loud, torch.tensor([0]), texts=texts).scales for texts in (MANY_TEXTS // 100, MANY_TEXTS))
    assert few[0] / few[1] < 0.1 < many[0] / many[1]
    parts, targets = drawn((1.5, 0.2))
    assert calibrate(parts, targets, texts=20).scales == pytest.approx((1.5, 0.2), rel=0.15, abs=0.05)


def test_calibration_error_by_hand() -> None:
    """Three answers in the bin of 0.9, of which two are right, and one in that of 0.6, which is right."""
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4]], dtype=torch.float64)
    targets = torch.tensor([0, 1, 1, 0])
    expected = (abs(2 - 2.7) + abs(1 - 0.6)) / 4
    assert calibration_error(probabilities, targets) == pytest.approx(expected)
    assert calibration_error(probabilities, F.one_hot(targets).float()) == pytest.approx(expected)
    assert calibration_error(probabilities[:0], targets[:0]) == 0
    assert calibration_error(torch.tensor([[1.0, 0.0]]), torch.tensor([0])) == 0


def test_brier_score_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
    assert brier_score(probabilities, torch.tensor([0, 0])) == pytest.approx((0.01 + 0.01 + 0.49 + 0.49) / 2)
    assert brier_score(probabilities, torch.tensor([[1.0, 0.0], [1.0, 1.0]])) == pytest.approx(
        (0.01 + 0.01 + 0.49 + 0.09) / 2
    )
    assert brier_score(probabilities, torch.tensor([0, -1])) == pytest.approx((0.02 + 0.09 + 0.49) / 2)
    assert math.isclose(brier_score(probabilities[:0], torch.tensor([], dtype=torch.int64)), 0.0)


def test_a_label_that_the_model_lacks_is_never_right() -> None:
    scores, right = top(torch.tensor([[0.2, 0.8], [0.6, 0.4]]), torch.tensor([-1, 0]))
    assert scores.tolist() == pytest.approx([0.8, 0.6])
    assert right.tolist() == [0, 1]
