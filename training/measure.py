"""Seconds and bytes of a piece of work: what training.compare, --explain-sizes and the benchmarks measure with."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]


def peak_bytes(work: Work, device: torch.device) -> int:
    """The most bytes of tensors alive at once that the work added to what was there before.

    On the CPU the sum over the profiler's allocation events, on a GPU torch.cuda.max_memory_allocated.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def seconds(work: Work, device: torch.device) -> float:
    """Of one call, by the wall clock, the GPU's work included."""
    _wait_for(device)
    started = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - started


def median_seconds(works: Sequence[Work], device: torch.device, *, rounds: int = 5) -> list[float]:
    """The median over the rounds of each work's seconds, after a call to warm up.

    The works take turns, so that what else the machine does falls on all of them alike.
    """
    for work in works:
        work()
    times = [[seconds(work, device) for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
