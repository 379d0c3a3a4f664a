"""The two losses without a module: time and memory by the number of classes, and extreme logits."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.measure import Work, median_seconds, peak_bytes

TEXTS = 64
SIZES = (1.0, 30.0, 50.0, 89.0, 100.0, 1e3, 1e4, 1e30)
FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": F.cross_entropy,
    "nll": lambda logits, targets: F.nll_loss(F.log_softmax(logits, dim=1), targets),
    "naive": lambda logits, targets: F.nll_loss(torch.log(torch.softmax(logits, dim=1)), targets),
}
"""The last is softmax, then log: what the formula says and nobody should write."""


def by_classes(device: torch.device, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Seconds and peak bytes of forward and backward for TEXTS texts, by form and number of classes."""
    rows = []
    for classes in counts:
        torch.manual_seed(0)
        logits = torch.randn(TEXTS, classes, device=device, requires_grad=True)
        targets = torch.randint(classes, (TEXTS,), device=device)
        works = [_work(form, logits, targets) for form in FORMS.values()]
        times = median_seconds(works, device, rounds=51 if classes <= 10_000 else 11)
        peaks = [peak_bytes(work, device) for work in works]
        rows += [
            {"classes": classes, "form": form, "seconds": seconds, "bytes": peak,
             "time": seconds / times[0], "memory": peak / peaks[0]}
            for form, seconds, peak in zip(FORMS, times, peaks, strict=True)
        ]  # fmt: skip
    return rows


def _work(form: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> Work:
    def work() -> None:
        logits.grad = None
        form(logits, targets).backward()  # type: ignore[no-untyped-call]

    return work


def extremes() -> list[dict[str, Any]]:
    """Loss and gradient at logits (size, -size, 0) whose class is the second, beside the true loss, 2 * size."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for size in SIZES:
            for name, form in FORMS.items():
                logits = torch.tensor([[size, -size, 0.0]], dtype=dtype, requires_grad=True)
                value = form(logits, torch.tensor([1]))
                value.backward()  # type: ignore[no-untyped-call]
                assert logits.grad is not None
                rows.append({
                    "precision": str(dtype).removeprefix("torch."), "size": size, "form": name,
                    "loss": _plain(value), "true": _true(size),
                    "gradient": "finite" if bool(torch.isfinite(logits.grad).all()) else "nan",
                })  # fmt: skip
    return rows


def _true(size: float) -> float:
    """log(e^2s + 1 + e^s), taken from its largest term: 2 s and what the rest adds."""
    return 2 * size + float(torch.log1p(torch.exp(torch.tensor([-size, -2 * size], dtype=torch.float64)).sum()))


def _plain(value: Tensor) -> float | str:
    """A number, or what JSON has no number for."""
    number = value.item()
    return number if torch.isfinite(value).item() else str(number)
