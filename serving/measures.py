"""What is counted while requests are answered, as plain numbers: a request pays some additions for it.

Those of several processes are added up, and given to Prometheus in its own words where they are asked for.
"""

import bisect
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CLOSED = 499
"""The status, as servers write it down, of a request whose client has gone before its answer."""
STATUSES = (200, 422, 429, 500, 503, 504)
"""Told from the beginning: a rate can be had only of what was 0 before."""
STAGES = ("queue", "tokenise", "infer", "serialise")


class Histogram:
    """Counts of values by upper bounds, and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect.bisect_left(self._bounds, value)] += times
        self.sum += value * times


class OfModel:
    """What is counted of one model."""

    def __init__(self) -> None:
        self.texts = self.abstained = self.out_of_scope = 0
        self.labels: Counter[str] = Counter()
        self.scores = Histogram(SHARES)
        self.batches = Histogram(SIZES)
        self.stages = {stage: Histogram(SECONDS) for stage in STAGES}
        self.reloads = Counter(done=0, failed=0)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "texts": self.texts,
            "abstained": self.abstained,
            "out_of_scope": self.out_of_scope,
            "labels": dict(self.labels),
            "reloads": dict(self.reloads),
            "scores": _plain(self.scores),
            "batches": _plain(self.batches),
            "stages": {stage: _plain(histogram) for stage, histogram in self.stages.items()},
        }


class Measures:
    """What is counted in one process."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter(dict.fromkeys(STATUSES, 0))
        """By status; health is not counted, of which there may be more than of anything else."""
        self.seconds = Histogram(SECONDS)
        """From the headers of a request to its answer."""
        self.models: defaultdict[str, OfModel] = defaultdict(OfModel)

    def answered(self, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests[status] += 1
        self.seconds.add(seconds)

    def to_json(self) -> dict[str, Any]:
        """As plain values, which `added` adds up."""
        return {
            "cpu_seconds": time.process_time(),
            "requests": {str(status): count for status, count in self.requests.items()},
            "seconds": _plain(self.seconds),
            "models": {name: model.to_json() for name, model in self.models.items()},
        }


def _plain(histogram: Histogram) -> dict[str, Any]:
    return {"counts": list(histogram.counts), "sum": histogram.sum}


def added(values: Iterable[Any]) -> Any:
    """Plain values of one shape added up: numbers, lists place by place, dicts key by key."""
    found = list(values)
    if isinstance(found[0], Mapping):
        keys = dict.fromkeys(key for one in found for key in one)
        return {key: added(one[key] for one in found if key in one) for key in keys}
    if isinstance(found[0], list):
        return [sum(places) for places in zip(*found, strict=True)]
    return sum(found)


class Collector:
    """What Prometheus is told, of plain values."""

    def __init__(
        self, values: Mapping[str, Any], gauges: Mapping[str, float], versions: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._values = values
        self._gauges = gauges
        self._versions = Counter(versions)

    def collect(self) -> Iterator[Metric]:
        """Each metric."""
        requests = CounterMetricFamily("nlp_app_requests", "Answered requests by status.", labels=["status"])
        for status, count in self._values.get("requests", {}).items():
            requests.add_metric([status], count)
        yield requests
        if "seconds" in self._values:
            seconds = HistogramMetricFamily("nlp_app_request_seconds", "From the headers to the answer.", labels=[])
            _add(seconds, [], SECONDS, self._values["seconds"])
            yield seconds
        for name, value in self._gauges.items():
            yield GaugeMetricFamily(f"nlp_app_{name}", GAUGES[name], value=value)
        cpu = CounterMetricFamily("nlp_app_cpu_seconds", "Processor time that the processes took.")
        cpu.add_metric([], self._values.get("cpu_seconds", 0.0))
        yield cpu
        answering = GaugeMetricFamily(
            "nlp_app_model_workers", "Processes that answer with a version of a model.", labels=["model", "version"]
        )
        for key, count in self._versions.items():
            answering.add_metric(key, count)
        yield answering
        yield from self._of_models(self._values.get("models", {}))

    def _of_models(self, models: Mapping[str, Any]) -> Iterator[Metric]:
        for name, told in COUNTERS.items():
            counter = CounterMetricFamily(f"nlp_app_{name}", told, labels=["model"])
            for model, values in models.items():
                counter.add_metric([model], values[name])
            yield counter
        for name, label, told in LABELLED:
            counter = CounterMetricFamily(f"nlp_app_{name}", told, labels=["model", label])
            for model, values in models.items():
                for key, count in values[name].items():
                    counter.add_metric([model, key], count)
            yield counter
        for name, metric, bounds, told in HISTOGRAMS:
            histogram = HistogramMetricFamily(f"nlp_app_{metric}", told, labels=["model"])
            for model, values in models.items():
                _add(histogram, [model], bounds, values[name])
            yield histogram
        stages = HistogramMetricFamily("nlp_app_stage_seconds", "Time of a batch by stage.", labels=["model", "stage"])
        for model, values in models.items():
            for stage, found in values["stages"].items():
                _add(stages, [model, stage], SECONDS, found)
        yield stages


COUNTERS = {
    "texts": "Texts answered.",
    "abstained": "Texts whose score is too low for an answer.",
    "out_of_scope": "Texts unlike what the model was trained on.",
}
LABELLED = (("labels", "label", "Texts by label."), ("reloads", "outcome", "Reloads by outcome."))
HISTOGRAMS = (
    ("scores", "score", SHARES, "Score of the first label."),
    ("batches", "batch_texts", SIZES, "Texts answered by one call of the model."),
)
GAUGES = {
    "waiting_texts": "Texts accepted and not answered yet.",
    "max_waiting_texts": "Texts that may wait, in all processes.",
    "connections": "Open connections.",
    "max_connections": "Connections that there may be, in all processes.",
    "resident_bytes": "Memory of the processes that answer.",
    "workers_ready": "Processes that answer.",
}


def _add(metric: HistogramMetricFamily, labels: Sequence[str], bounds: Sequence[float], found: Any) -> None:
    total, buckets = 0, []
    for bound, count in zip((*map(str, bounds), "+Inf"), found["counts"], strict=True):
        total += count
        buckets.append((bound, total))
    metric.add_metric(list(labels), buckets, found["sum"])
