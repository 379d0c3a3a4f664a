"""The figures of training.compare as tables, on the screen and in Markdown, with a verdict."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from training.compare_classes import FORMS
from training.losses import LOSSES

Lines = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""A title, a header and rows."""


def tables(result: Mapping[str, Any]) -> Iterator[Table]:
    """For the screen."""
    for title, header, rows in _all(result):
        table = Table(*header, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        yield table


def section(result: Mapping[str, Any]) -> str:
    """For docs/notes-measured.md."""
    parts = [f"{title}:\n\n{_markdown(header, rows)}" for title, header, rows in _all(result)]
    return "\n\n".join((*parts, verdict(result)))


def verdict(result: Mapping[str, Any]) -> str:
    """What the figures say of the two losses."""
    exact = max(row["gradient"] for row in result["steps"]["float64"])
    equal = sum(row["bit_equal"] for row in result["scores"])
    runs = sum(row["seeds"] for row in result["scores"])
    apart = max(abs(row["paired"]["accuracy"]) for row in result["scores"])
    noise = max(max(row["spread"]["accuracy"].values()) for row in result["scores"])
    same = f"the weights of {equal} of {runs} pairs of runs are the same bits" if equal else (
        f"the mean difference of accuracy is {100 * apart:.2f} points at most, beside a spread over seeds of up to "
        f"{100 * noise:.2f}"
    )  # fmt: skip
    if equal == runs:
        same = f"in all {runs} pairs of runs the chosen weights are the same bits, so there is no difference to test"
    broken = min((row["size"] for row in result["extremes"] if _breaks(row)), default=0.0)
    word = "holds" if exact < 1e-6 and (equal == runs or apart <= 2 * noise) else "does not hold"
    return (
        f"**Verdict: {word}.** Cross-entropy of logits and negative log-likelihood of their log-softmax are one "
        f"function: their gradients differ by {exact:.0e} of the largest entry in float64, and {same}. The sentence "
        '"softmax + log at the end" holds as mathematics only: computed in that order, as the naive form does, it is '
        f"infinite or has no gradient from logits of {broken:g} on in float32, where both losses are right."
    )


def _breaks(row: Mapping[str, Any]) -> bool:
    return (
        row["form"] == "naive"
        and row["precision"] == "float32"
        and (isinstance(row["loss"], str) or row["gradient"] != "finite")
    )


def _all(result: Mapping[str, Any]) -> Iterator[Lines]:
    yield _steps(result)
    yield _scores(result)
    yield _classes(result)
    yield _extremes(result)


def _steps(result: Mapping[str, Any]) -> Lines:
    rows = [
        (name, *(f"{max(row[key] for row in steps):.1e}" for key in ("loss", "gradient", "logits")))
        for name, steps in result["steps"].items()
    ]
    count = len(next(iter(result["steps"].values())))
    title = f"Largest difference in {count} steps on {result['steps_of']}, from the same weights"
    return title, ("precision", "loss", "gradient, of its largest entry", "logits"), rows


def _scores(result: Mapping[str, Any]) -> Lines:
    rows = [
        (
            row["set"],
            *(_with_spread(row, loss) for loss in LOSSES),
            f"{100 * row['paired']['accuracy']:+.3f}",
            *(f"{row['mean']['loss'][loss]:.4f}" for loss in LOSSES),
            f"{row['bit_equal']} of {row['seeds']}",
        )
        for row in result["scores"]
    ]  # fmt: skip
    header = ("set", *(f"accuracy, {loss}" for loss in LOSSES), "difference", *(f"loss, {loss}" for loss in LOSSES),
              "same bits")  # fmt: skip
    return f"Validation scores, mean and spread of {result['seeds']} seeds, in %", header, rows


def _with_spread(row: Mapping[str, Any], loss: str) -> str:
    return f"{100 * row['mean']['accuracy'][loss]:.2f} ± {100 * row['spread']['accuracy'][loss]:.2f}"


def _classes(result: Mapping[str, Any]) -> Lines:
    rows: list[tuple[str, ...]] = [
        (f"{row['classes']:,}", row["form"], f"{1e3 * row['seconds']:.3f}", f"{row['time']:.2f}",
         f"{row['bytes'] / 1e6:.3f}", f"{row['memory']:.2f}")
        for row in result["classes"]
    ]  # fmt: skip
    header = ("classes", "form", "ms", "time, of cross-entropy", "peak MB", "memory, of cross-entropy")
    return f"Forward and backward of the loss alone, 64 texts, {result['device']}", header, rows


def _extremes(result: Mapping[str, Any]) -> Lines:
    rows: list[tuple[str, ...]] = []
    for precision, size in dict.fromkeys((row["precision"], row["size"]) for row in result["extremes"]):
        of = {row["form"]: row for row in result["extremes"] if (row["precision"], row["size"]) == (precision, size)}
        cells = (f"{_shown(of[form]['loss'])}, {of[form]['gradient']}" for form in FORMS)
        rows.append((precision, f"{size:g}", f"{of['naive']['true']:.6g}", *cells))
    header = ("precision", "size", "true loss", *(f"{form}: loss, gradient" for form in FORMS))
    return "Logits of (size, -size, 0), where the second class is the right one", header, rows


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
