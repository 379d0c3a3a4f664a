"""`python -m benchmarks.modules`: what nn.Module and nn.Sequential do, forward and back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import device_name, make_batch, make_module, markdown, run_benchmark
from nlp_app.errors import run_command
from training.measure import median_seconds

LAYERS = 8


def measure(device: torch.device) -> dict[str, Any]:
    """The order of calls forward and back, output and time beside a loop, and what becomes of a second argument."""
    torch.manual_seed(0)
    sequence = nn.Sequential(*(nn.Linear(64, 64) for _ in range(LAYERS))).to(device)
    x = torch.randn(32, 64, device=device)
    forward, back = _orders(sequence, x)

    def loop(x: Tensor = x) -> Tensor:
        for layer in sequence:
            x = layer(x)
        return x

    times = median_seconds([lambda: sequence(x), loop], device, rounds=101)
    module, (input_ids, _) = make_module(device, vocab_size=100), make_batch(device, texts=2, tokens=4, vocab_size=100)
    return {
        "device": device_name(device),
        "forward": forward,
        "back": back,
        "equal": bool(torch.equal(sequence(x), loop())),
        "time": times[0] / times[1],
        "second_argument": _second_argument(module, input_ids),
        "names": [name for name, _ in module.named_children()],
    }


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    rows = [
        ("layers called forward", " ".join(map(str, result["forward"]))),
        ("layers reached by the gradient", " ".join(map(str, result["back"]))),
        ("output equal to a loop's, bit for bit", result["equal"]),
        ("time, of a loop", f"{result['time']:.2f}"),
        ("called with a second argument, such as a mask", f"`{result['second_argument']}`"),
    ]
    there = result["forward"] == list(range(LAYERS)) and result["back"] == result["forward"][::-1] and result["equal"]
    return (
        f"{markdown(('nn.Sequential', 'measured'), rows)}\n\n"
        f"**Verdict: {'holds' if there else 'does not hold'}.** TextClassifier is a class derived from nn.Module whose "
        f"children ({', '.join(result['names'])}) it finds by name; nn.Sequential applies its modules one after "
        "another and "
        "hands the gradient back in reverse. But it hands on one tensor only, so the stack of blocks, each of which "
        "needs "
        "the mask, is a subclass of it with a forward of its own (ConvStack)."
    )


def _orders(sequence: nn.Sequential, x: Tensor) -> tuple[list[int], list[int]]:
    forward: list[int] = []
    back: list[int] = []
    hooks = []
    for number, layer in enumerate(sequence):
        hooks.append(layer.register_forward_hook(lambda *_, number=number: forward.append(number)))
        hooks.append(layer.register_full_backward_hook(lambda *_, number=number: back.append(number)))
    sequence(x.clone().requires_grad_()).sum().backward()
    for hook in hooks:
        hook.remove()
    return forward, back


def _second_argument(module: nn.Module, input_ids: Tensor) -> str:
    embedded, mask = module.embed(input_ids)  # type: ignore[operator]
    try:
        nn.Sequential(*module.blocks)(embedded, mask)  # type: ignore[misc]
    except TypeError as error:
        return f"TypeError: {error}"
    return "takes it"


def main() -> int:
    """Measure, print, write; gives the exit code."""
    return run_benchmark("modules", __doc__, measure, section)


if __name__ == "__main__":
    run_command(main)
