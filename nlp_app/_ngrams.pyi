from numpy import float32, int32, uint8, uint32
from numpy.typing import NDArray

def count(
    codes: NDArray[uint32],
    kinds: NDArray[uint8],
    bits: int,
    lowest: int,
    highest: int,
    slots: NDArray[int32],
    counts: NDArray[float32],
) -> int: ...
