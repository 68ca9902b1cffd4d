"""Images that look unlike all others: nearly black, blank, without colour, noise.

Features of a network do not show them: pictures of another kind, which the network was not trained on, get small
features, near the middle of all (measured with foreign pictures, docs/benchmarks.md). What a person sees at a glance
is in simple statistics of the pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import laplace

_FAR_OUT: Final = 3.0
"""An outlier is further from the middle half of all images than this many times its width (Tukey, "Exploratory Data
Analysis", 1977)."""
_CHUNK: Final = 256


@dataclass(frozen=True)
class _Statistic:
    """A number that describes an image.

    Attributes:
        low, high: what an image is called whose number is much lower or higher than those of the others.
        least_width: the width of the middle half counts as at least this, so that images that are nearly equal in this
            respect make no outliers.
    """

    low: str
    high: str
    least_width: float


_STATISTICS: Final = (
    _Statistic("much darker than the others", "much brighter than the others", 16),
    _Statistic("of much lower contrast than the others", "of much higher contrast than the others", 8),
    _Statistic("nearly without colour", "of much stronger colours than the others", 16),
    _Statistic("much less detailed than the others", "much more detailed than the others", 0.25),
)


def outliers(pixels: Iterator[NDArray[np.uint8]]) -> list[str]:
    """Why each image is an outlier; an empty text for the others.

    Args:
        pixels: uint8 [M,S,S,3] RGB in 0-255, the images in batches.
    """
    found = np.concatenate([_measure(batch) for batch in pixels])
    lower, upper = np.quantile(found, (0.25, 0.75), axis=0)
    width = _FAR_OUT * np.maximum(upper - lower, [statistic.least_width for statistic in _STATISTICS])
    low, high = found < lower - width, found > upper + width
    return [_reason(*row) for row in zip(low.tolist(), high.tolist(), strict=True)]


def _measure(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Brightness and contrast in 0-255, colour (largest less smallest channel) in 0-255, and ln of detail: [M,4]."""
    images = pixels.astype(np.float32)
    grey = images.mean(axis=3)
    edges = np.abs(np.stack([laplace(image) for image in grey])).mean(axis=(1, 2))
    colour = (images.max(axis=3) - images.min(axis=3)).mean(axis=(1, 2))
    return np.stack([grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), colour, np.log1p(edges)], axis=1)


def _reason(low: Sequence[bool], high: Sequence[bool]) -> str:
    """In words; the first statistic that is far out."""
    for statistic, is_low, is_high in zip(_STATISTICS, low, high, strict=True):
        if is_low or is_high:
            return statistic.low if is_low else statistic.high
    return ""
