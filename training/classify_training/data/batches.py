"""Arrays cut into batches."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from classify_training.progress import track

Scalar = TypeVar("Scalar", bound=np.generic)


def batches(array: NDArray[Scalar], size: int) -> Iterator[NDArray[Scalar]]:
    """Yield an array, [N,...], as slices of `size` elements along its first axis; the last one may be shorter."""
    for start in range(0, len(array), size):
        yield array[start : start + size]


def track_batches(array: NDArray[Scalar], size: int, description: str, quiet: bool) -> Iterator[NDArray[Scalar]]:
    """Yield the batches with a progress bar; raises as `track`."""
    yield from track(batches(array, size), len(array), description, quiet, images=len)
