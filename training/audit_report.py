"""What an audit found as a table for the terminal, and as a page."""

import html
from collections.abc import Sequence
from string import Template

from rich.console import Console
from rich.table import Table

from training.audit_findings import Finding, Part

VERSION = 1
"""Of the JSON: it grows when a key goes or means something else."""
COLOURS = {"high": "red", "medium": "yellow", "low": "cyan"}
PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Audit of $texts texts</title>
<style>
:root { color-scheme: light dark; --line: #8884; --high: #c62828; --medium: #b26a00; --low: #1565c0; }
@media (prefers-color-scheme: dark) { :root { --high: #ff8a80; --medium: #ffd180; --low: #82b1ff; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } p { margin: .3rem 0; }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .75rem 0; padding: .6rem 1rem; }
summary { cursor: pointer; font-weight: 600; } summary span { font-weight: 400; }
.high { color: var(--high); } .medium { color: var(--medium); } .low { color: var(--low); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .875rem; margin-top: .5rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-top: 1px solid var(--line); }
td:first-child { white-space: nowrap; } td { overflow-wrap: anywhere; min-width: 6rem; }
</style></head><body>
<h1>Audit of $texts texts</h1>
<p>$parts</p>
$findings
$left_out
</body></html>
""")


def print_findings(console: Console, parts: Sequence[Part], findings: Sequence[Finding]) -> None:
    """The table, and an example or two of each finding."""
    console.print(f"audited {sizes(parts)}", highlight=False)
    if not findings:
        console.print("nothing was found", highlight=False)
        return
    table = Table(title="what was found", title_justify="left")
    for name in ("finding", "rows", "share", "what", "what to do"):
        table.add_column(name, justify="right" if name in ("rows", "share") else "left", overflow="fold")
    for one in findings:
        colour = COLOURS[one.severity]
        cells = (one.name, f"{one.count:,}", f"{one.share:.1%}", one.what, one.advice)
        table.add_row(*(_plain(cell) for cell in cells), style=colour if one.severity == "high" else None)
    console.print(table)
    for one in findings:
        for example in one.examples[:2]:
            why = f" – {example.why}" if example.why else ""
            line = f"{one.name}: {example.place} [{example.labels}] {example.text}{why}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def sizes(parts: Sequence[Part]) -> str:
    """How many texts each part has."""
    return ", ".join(f"{len(part):,} texts of {part.name}" for part in parts)


def _plain(cell: str) -> str:
    return cell.replace("[", r"\[")


def html_page(parts: Sequence[Part], findings: Sequence[Finding], left_out: Sequence[str]) -> str:
    """One page that needs nothing else, every word of the texts escaped."""
    reasons = "".join(f"<p>Not checked: {html.escape(reason)}</p>" for reason in left_out)
    body = "\n".join(_section(one, is_open=number < 3) for number, one in enumerate(findings))
    return PAGE.substitute(
        texts=f"{sum(map(len, parts)):,}",
        parts=html.escape(sizes(parts)),
        findings=body or "<p>Nothing was found.</p>",
        left_out=reasons,
    )


def _section(one: Finding, *, is_open: bool) -> str:
    cells = ((example.place, example.labels, example.text, example.why) for example in one.examples)
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    head = "<tr><th>where</th><th>label</th><th>text</th><th>why</th></tr>"
    table = f'<div class="scroll"><table>{head}{rows}</table></div>' if rows else ""
    title = f'<b class="{one.severity}">{html.escape(one.name)}</b> <span>{one.count:,} ({one.share:.1%})</span>'
    return (
        f"<details{' open' * is_open}><summary>{title}</summary><p>{html.escape(one.what)}</p>"
        f"<p>{html.escape(one.advice)}.</p>{table}</details>"
    )
