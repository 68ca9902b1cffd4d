"""`--gradcam`: heat maps of the image regions that led to a wrong prediction, as a picture beside each miss."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classify_client.results.reader import Item
from classify_serving.exchange.misses import MISS, clip_end

_SUFFIX: Final = "_cam.png"
# Matplotlib's colour map inferno at six places, without its black: regions without influence keep their colours.
_COLOURS: Final = np.array(
    [(66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (246, 215, 70), (252, 255, 164)], np.float32
)


def is_heatmap(path: str) -> bool:
    """Whether a file in `miss/` has the name of a heat map."""
    return path.endswith(_SUFFIX)


class HeatmapFolder:
    """Writes `{copy}_cam.png` beside the copies in `miss/`; removes the heat maps of earlier runs first.

    Args:
        folder: the output folder.
        misses: all misses, whose copies are never overwritten.
    """

    def __init__(self, folder: Path, misses: Iterable[Item]) -> None:
        self._copies = {item.copy for item in misses if item.copy}
        self._names = {path.relative_to(folder).as_posix() for path in self._copies}
        self._folder = folder
        self._remove_earlier()

    def _remove_earlier(self) -> None:
        for path in (self._folder / MISS).rglob(f"*{_SUFFIX}"):
            if path not in self._copies:
                path.unlink(missing_ok=True)
                if path.parent != self._folder / MISS:
                    with suppress(OSError):
                        path.parent.rmdir()

    def write(self, item: Item, picture: Image.Image) -> None:
        """Write the picture of a miss that has a copy.

        Raises:
            OSError: it cannot be written.
        """
        assert item.copy is not None
        picture.save(self._folder / self._free_name(item.copy.relative_to(self._folder).as_posix()), "PNG")

    def _free_name(self, copy: str) -> str:
        path = PurePosixPath(copy)
        name = str(path.with_name(clip_end(path.stem, 240) + _SUFFIX))
        while name in self._names:
            name = name.removesuffix(_SUFFIX) + f"_{_SUFFIX}"
        self._names.add(name)
        return name


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """Lay a heat map over an image.

    Args:
        image: uint8 [H,W,3] RGB, 0-255.
        heat: float32 [h,w], 0-1; it covers the whole image.
    """
    height, width = image.shape[:2]
    scaled = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(scaled), 0, 1)
    stops = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(strength, stops, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    opacity = 0.75 * np.sqrt(strength)[..., None]
    return Image.fromarray(np.rint(image * (1 - opacity) + colours * opacity).astype(np.uint8))
