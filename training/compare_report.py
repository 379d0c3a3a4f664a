"""The figures of training.compare as tables, on the screen and in Markdown, with a verdict."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from training.compare_classes import CONTROL, FORMS
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
    """What the figures say of the two sentences of the notes."""
    return f"{_of_softmax(result)}\n\n{_of_nll(result)}"


def _of_softmax(result: Mapping[str, Any]) -> str:
    sentence = "cross-entropy = softmax + log at the end"
    naive = [row for row in result["extremes"] if row["form"] == "naive" and row["precision"] == "float32"]
    broken = min((row["size"] for row in naive if _breaks(row)), default=math.inf)
    if broken <= 1 or isinstance(naive[0]["error"], str) or naive[0]["error"] > 1e-6:
        return f'**Verdict: does not hold.** "{sentence}": the two differ at logits of {naive[0]["size"]:g} already.'
    if broken == math.inf:
        return f'**Verdict: holds.** "{sentence}": the loss and the gradient are right at every size of the logits.'
    return (
        f'**Verdict: holds only when** softmax and log are one function. "{sentence}" is right as mathematics; '
        f"computed one after the other it has an infinite loss or no gradient from logits of {broken:g} on in float32, "
        f"where both losses are right up to {max(row['size'] for row in naive):g}."
    )


def _of_nll(result: Mapping[str, Any]) -> str:
    off = max(row["gradient"] for row in result["steps"]["float64"])
    holds = off < 1e-12 and all(map(_within_noise, result["scores"]))
    equal, runs = (sum(row[key] for row in result["scores"]) for key in ("bit_equal", "seeds"))
    apart = max(result["scores"], key=lambda row: abs(row["paired"]["accuracy"]))
    same = (
        f"the weights of {equal} of {runs} pairs of runs are the same bits; the largest mean difference of accuracy is "
        f"{100 * abs(apart['paired']['accuracy']):.2f} points on {apart['set']}, beside a spread over seeds of "
        f"{100 * max(apart['spread']['accuracy'].values()):.2f}"
    )
    if equal == runs:
        same = f"in all {runs} pairs of runs the chosen weights are the same bits, so there is no difference to test"
    gradients = f"differ by {off:.0e} of their norm at most" if off else "are equal in every step"
    return (
        f"**Verdict: {'holds' if holds else 'does not hold'}.** Cross-entropy of logits is the negative log-likelihood "
        f"of their log-softmax: in float64 the gradients {gradients}, and {same}. {_cost(result)}"
    )


def _within_noise(row: Mapping[str, Any]) -> bool:
    return bool(
        row["bit_equal"] == row["seeds"] or abs(row["paired"]["accuracy"]) <= max(row["spread"]["accuracy"].values())
    )


def _cost(result: Mapping[str, Any]) -> str:
    def of(form: str, key: str) -> str:
        return _range(row[key] for row in result["classes"] if row["form"] == form)

    return (
        f"Log-softmax and NLL take {of('nll', 'time')} of cross-entropy's time, where cross-entropy itself takes "
        f"{of(CONTROL, 'time')} when it is timed again, and {of('nll', 'memory')} of its memory."
    )


def _range(values: Iterable[float]) -> str:
    ends = [f"{end(found):.2f}" for found in [list(values)] for end in (min, max)]
    return " to ".join(dict.fromkeys(ends))


def _breaks(row: Mapping[str, Any]) -> bool:
    return isinstance(row["loss"], str) or row["gradient"] != "finite"


def _all(result: Mapping[str, Any]) -> Iterator[Lines]:
    yield _steps(result)
    yield _scores(result)
    yield _classes(result)
    yield _extremes(result)


def _steps(result: Mapping[str, Any]) -> Lines:
    keys = {"loss": "loss", "gradient_absolute": "gradient", "gradient": "gradient, of its norm", "logits": "logits"}
    rows = [
        (name, *(f"{max(row[key] for row in steps):.1e}" for key in keys),
         f"{sum(row['same_bits'] for row in steps)} of {len(steps)}")
        for name, steps in result["steps"].items()
    ]  # fmt: skip
    title = f"Largest difference in the first steps on {result['steps_of']}, from the same weights"
    return title, ("precision", *keys.values(), "steps of the same bits"), rows


def _scores(result: Mapping[str, Any]) -> Lines:
    rows = [
        (
            row["set"],
            *(_with_spread(row, loss) for loss in LOSSES),
            f"{100 * row['paired']['accuracy']:+.3f}",
            *(f"{100 * row['mean']['macro_f1'][loss]:.2f}" for loss in LOSSES),
            *(f"{row['mean']['loss'][loss]:.4f}" for loss in LOSSES),
            f"{row['bit_equal']} of {row['seeds']}",
        )
        for row in result["scores"]
    ]  # fmt: skip
    header = ("set", *(f"accuracy, {loss}" for loss in LOSSES), "difference", *(f"macro F1, {loss}" for loss in LOSSES),
              *(f"loss, {loss}" for loss in LOSSES),
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
