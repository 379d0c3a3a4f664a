"""Which columns of a table hold the text and the label, where nobody said it."""

from collections.abc import Sequence

from nlp_app.errors import DataError

TEXT, LABELS = "text", ("label", "labels")
"""Looked for first."""
LIKE_TEXT = (
    "sentence", "content", "review", "question", "utterance", "message", "body", "tweet", "comment", "document",
    "query",
)  # fmt: skip
LIKE_LABEL = ("category", "class", "target", "intent", "topic", "sentiment", "label_text", "classification")
"""Taken where the table has one of them, in any case."""


def choose_columns(
    names: Sequence[str], text_columns: Sequence[str], label_column: str | None
) -> tuple[tuple[str, ...], str, list[str]]:
    """Text and label columns, and what to say of those that were found.

    Args:
        names: of the table's columns.
        text_columns: those that were asked for; none to look for one.
        label_column: the one that was asked for; None to look for it.

    Raises:
        DataError: one column is asked for as both.
    """
    notes = []
    texts = tuple(text_columns)
    if not texts:
        found = _found(names, (TEXT,), LIKE_TEXT)
        texts = (found or TEXT,)
        if found not in (None, TEXT):
            notes.append(f"texts are in the column {found!r} (--text-column names another)")
    if label_column is None:
        found = _found([name for name in names if name not in texts], LABELS, LIKE_LABEL)
        label_column = found or LABELS[0]
        if found not in (None, *LABELS):
            notes.append(f"labels are in the column {found!r} (--label-column names another)")
    if label_column in texts:
        raise DataError(f"column {label_column!r} cannot be both text and label: set --text-column or --label-column")
    return texts, label_column, notes


def _found(names: Sequence[str], first: Sequence[str], like: Sequence[str]) -> str | None:
    if exact := next((name for name in first if name in names), None):
        return exact
    alike = [name for name in names if name.strip().casefold() in (*first, *like)]
    return alike[0] if len(alike) == 1 else None
