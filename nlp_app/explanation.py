"""Explanation: what is told of why a text has its label (nlp_app/explain.py works it out)."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TokenContribution:
    """What a token adds."""

    token: str
    """As it stands in the text."""
    start: int
    """Its first character in the text."""
    end: int
    """The character after its last."""
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a label: baseline and contributions sum to what sets the label apart.

    That is its logit minus the mean of all logits, or its logit where a text may have several labels.
    """

    label: str
    baseline: float
    """What belongs to no token."""
    tokens: tuple[TokenContribution, ...]
    """All that the model reads, in the order of the text."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"tokens": [asdict(token) for token in self.tokens]}
