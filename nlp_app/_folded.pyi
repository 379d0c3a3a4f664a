from numpy import float32, int32, int64
from numpy.typing import NDArray

Floats = NDArray[float32]
Module = tuple[Floats, int, NDArray[int64], Floats, Floats]
"""The table, rows a tap, the kernels' sizes, the shift, the weight of the last layer."""
Branch = tuple[NDArray[int32], Floats, Floats, float]
"""Rows by slot, idf, the weight, the length of the shapes' part."""

def convolutions(ids: NDArray[int32], logits: Floats, module: Module) -> None: ...
def branch(slots: NDArray[int32], counts: Floats, logits: Floats, branch: Branch) -> int: ...
