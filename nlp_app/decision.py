"""Decision: what is said of a text, given its probabilities; found on validation texts, kept beside the weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlp_app.errors import ConfigError

HALF = 0.5
UNREACHABLE = 2.0
"""A min_score that no probability reaches, not even 1."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """From probabilities to labels."""

    thresholds: tuple[float, ...] = ()
    """(C,) where a text may have several labels: it is given those whose probability is this or more; none: HALF."""
    min_score: float = 0.0
    """A text whose best label has a lower probability is abstained from; UNREACHABLE: every text is."""
    min_familiarity: float = 0.0
    """A text that is less familiar is out of scope: like nothing that the model was trained on."""

    def __post_init__(self) -> None:
        min_score = () if self.min_score == UNREACHABLE else (self.min_score,)
        for value in (*self.thresholds, *min_score, self.min_familiarity):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ConfigError(f"a threshold of the decision is {value!r}, but must be a number from 0 to 1")

    def given(self, probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether each label is given: (N, C) -> (N, C)."""
        return probabilities >= (np.array(self.thresholds, dtype=np.float32) if self.thresholds else np.float32(HALF))

    def out_of_scope(self, familiarity: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether each text is: (N,) -> (N,)."""
        return familiarity < self.min_familiarity

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"thresholds": list(self.thresholds)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, classes: int) -> "Decision":
        """What to_json gave, for a model of so many classes.

        Raises:
            ConfigError: a key is unknown to this version, or a value breaks a rule.
        """
        if unknown := sorted(values.keys() - {field.name for field in fields(cls)}):
            raise ConfigError(f"the decision has {', '.join(map(repr, unknown))}, unknown to this version: update it")
        thresholds = values.get("thresholds", [])
        if not isinstance(thresholds, list) or len(thresholds) not in (0, classes):
            raise ConfigError(f"the decision's thresholds must be a list of {classes} numbers, one a label, or of none")
        return cls(**{**values, "thresholds": tuple(thresholds)})
