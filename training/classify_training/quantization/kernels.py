"""Kernels as 8-bit integers, with a range of its own for each output channel."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LARGEST: Final = 63
"""Not 127: processors without VNNI add two products of 8-bit integers in 16 bits, which these cannot exceed."""
_FULL: Final = 127


@dataclass(frozen=True)
class QuantizedKernel:
    """A kernel.

    Attributes:
        values: int8 [H,W,I,O], -63 to 63.
        limits: float32 [O], what 127 would stand for.
    """

    values: NDArray[np.int8]
    limits: NDArray[np.float32]

    @property
    def weights(self) -> NDArray[np.float32]:
        """What the integers stand for, float32 [H,W,I,O]."""
        weights: NDArray[np.float32] = self.values * (self.limits / np.float32(_FULL))
        return weights


def quantize_kernel(kernel: NDArray[np.float32]) -> QuantizedKernel:
    """Round a kernel, float32 [H,W,I,O], to 7 bits; the largest weight of each output channel keeps its value.

    A range for each output channel loses far less than one for all (Krishnamoorthi, "Quantizing deep convolutional
    networks for efficient inference", 2018, section 3.2.2).
    """
    largest = np.abs(kernel).max(axis=(0, 1, 2))
    # A channel of zeros needs a range too.
    largest = np.where(largest > 0, largest, 1).astype(np.float32)
    values = np.rint(kernel / largest * _LARGEST).astype(np.int8)
    return QuantizedKernel(values, largest * np.float32(_FULL / _LARGEST))
