"""The two losses without a module: time and memory by the number of classes, and extreme logits."""

from collections.abc import Callable, Sequence
from itertools import permutations
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.measure import Work, median_seconds, peak_bytes

Form = Callable[[Tensor, Tensor], Tensor]
"""(B, C) logits and (B,) targets to a scalar."""
TEXTS = 64
SIZES = (1.0, 30.0, 50.0, 89.0, 100.0, 1e3, 1e4, 1e30)
FORMS: dict[str, Form] = {
    "cross-entropy": F.cross_entropy,
    "nll": lambda logits, targets: F.nll_loss(F.log_softmax(logits, dim=1), targets),
    "naive": lambda logits, targets: F.nll_loss(torch.log(torch.softmax(logits, dim=1)), targets),
}
"""The last is softmax, then log: what the formula says and nobody should write."""
CONTROL = "cross-entropy, again"
"""Timed beside the others: as far as its ratio is from 1, ratios are noise."""


def by_classes(device: torch.device, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Seconds and peak bytes of forward and backward for TEXTS texts, by form and number of classes."""
    forms, rows = {**FORMS, CONTROL: F.cross_entropy}, []
    for classes in counts:
        torch.manual_seed(0)
        logits = torch.randn(TEXTS, classes, device=device, requires_grad=True)
        targets = torch.randint(classes, (TEXTS,), device=device)
        works = [_work(form, logits, targets) for form in forms.values()]
        times = _times(works, device, rounds=7 if classes <= 10_000 else 3)
        peaks = [_peak(form, logits, targets) for form in forms.values()]
        rows += [
            {"classes": classes, "form": form, **time, "bytes": peak, "memory": peak / peaks[0]}
            for form, time, peak in zip(forms, times, peaks, strict=True)
        ]
    return rows


def _times(works: Sequence[Work], device: torch.device, *, rounds: int) -> list[dict[str, float]]:
    """Seconds of each work, and as a multiple of the first one's: the median of several turns, and their range.

    A turn for each order that there is, so that each work stands in each place and follows each other one equally
    often: with a place of its own cross-entropy timed again took 0.86 to 1.12 of its time on two cores, and behind the
    naive form, whose tensors the caches are then full of, up to 1.10.
    """
    found = []
    for order in permutations(range(len(works))):
        seconds = median_seconds([works[place] for place in order], device, rounds=rounds)
        found.append([seconds[order.index(place)] for place in range(len(works))])
    ratios = [[turn[place] / turn[0] for turn in found] for place in range(len(works))]
    return [
        {"seconds": median(turn[place] for turn in found), "time": median(ratio), "time_low": min(ratio),
         "time_high": max(ratio)}
        for place, ratio in enumerate(ratios)
    ]  # fmt: skip


def _work(form: Form, logits: Tensor, targets: Tensor) -> Work:
    def work() -> None:
        logits.grad = None
        form(logits, targets).backward()  # type: ignore[no-untyped-call]

    return work


def _peak(form: Form, logits: Tensor, targets: Tensor) -> int:
    logits.grad = None  # or freeing the last form's gradient would count for this one: 2 tensors of (B, C) instead of 3
    return peak_bytes(_work(form, logits, targets), logits.device)


def extremes(device: torch.device) -> list[dict[str, Any]]:
    """Loss and gradient at logits (size, -size, 0) whose class is the second, beside the true ones in float64."""
    return [
        {"precision": str(dtype).removeprefix("torch."), "size": size, "form": name,
         **_extreme(form, torch.tensor([[size, -size, 0.0]], dtype=dtype, device=device))}
        for dtype in (torch.float32, torch.bfloat16, torch.float64) for size in SIZES for name, form in FORMS.items()
    ]  # fmt: skip


def _extreme(form: Form, logits: Tensor) -> dict[str, float | str]:
    value = form(logits.requires_grad_(), torch.tensor([1], device=logits.device))
    value.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    gradient = logits.grad[0].cpu().double()
    held = logits[0, 0].item()  # bfloat16 has no 10,000: the truth is that of the logits that there are
    return {
        "loss": _plain(value),
        "true": _true(held),
        "error": _plain(abs(value.cpu().double() / _true(held) - 1)),
        "gradient": "finite" if bool(torch.isfinite(gradient).all()) else "nan",
        "gradient_error": _plain((gradient - _true_gradient(held)).abs().max()),
    }


def _true(size: float) -> float:
    """log(e^2s + 1 + e^s), taken from its largest term: 2 s and what the rest adds."""
    return 2 * size + float(torch.log1p(torch.exp(torch.tensor([-size, -2 * size], dtype=torch.float64)).sum()))


def _true_gradient(size: float) -> Tensor:
    """(3,) float64: the probabilities, by the largest term again, less 1 at the right class."""
    powers = torch.exp(torch.tensor([0.0, -2 * size, -size], dtype=torch.float64))
    return powers / powers.sum() - torch.tensor([0.0, 1.0, 0.0])


def _plain(value: Tensor) -> float | str:
    """A number, or what JSON has no number for."""
    number: float = value.item()
    return number if torch.isfinite(value).item() else str(number)
