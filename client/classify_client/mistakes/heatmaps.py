"""`--explain`: where the model looked, as a picture beside each miss."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classify_client.errors import RequestRefused, ServiceError, Stopped
from classify_client.inference.model_client import Service
from classify_client.results.reader import Item, places
from classify_serving.contract import model as contract
from classify_serving.contract.images import ImageError, decode_image, decode_thumbnail
from classify_serving.contract.model import ModelMetadata
from classify_serving.exchange.misses import MISS, clip_end

_BATCH: Final = 16
_SIDE: Final = 320
_ENDING: Final = "_cam.png"
# Inferno of matplotlib at six places, without its black: what the model did not look at stays as it is.
_COLOURS: Final = np.array(
    [(66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (246, 215, 70), (252, 255, 164)], np.float32
)

log = logging.getLogger(__name__)


def explain_misses(folder: Path, misses: Sequence[Item], service: Service, model: ModelMetadata) -> dict[str, Path]:
    """Ask for the heat of each miss that has a copy, and write `{copy}_cam.png` beside it.

    The heat is Grad-CAM for the class that was predicted (Selvaraju et al. 2017). A server that cannot give it is
    told of as a warning: the results are complete without.

    Returns:
        The pictures, by the path of their item.
    """
    taken = {item.miss for item in misses}
    written: dict[str, Path] = {}
    try:
        for group in _batches(folder, [item for item in misses if item.miss], model):
            heats = service.output(contract.EXPLAIN, np.stack([image for _, image in group]), contract.HEATMAP)
            for (item, _), heat in zip(group, heats, strict=True):
                path = folder / _cam_name(item.miss, taken)
                with suppress(ImageError):
                    overlay(_shown(folder / item.miss, model), heat).save(path, "PNG")
                    written[item.path] = path
    except (ServiceError, RequestRefused, Stopped) as error:
        log.warning("No heat maps of %d misses: %s", len(taken) - len(written), error)
    return written


def remove_cams(folder: Path, misses: Sequence[Item]) -> None:
    """Remove the pictures of earlier runs; copies of images that are called alike stay."""
    copies = {folder / item.miss for item in misses if item.miss}
    for path in (folder / MISS).rglob(f"*{_ENDING}"):
        if path not in copies:
            path.unlink(missing_ok=True)
            if path.parent != folder / MISS:
                with suppress(OSError):
                    path.parent.rmdir()


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """Lay a heat map over an image.

    Args:
        image: uint8 [H,W,3] RGB, 0-255.
        heat: float32 [h,w], 0-1, over the whole of it.
    """
    height, width = image.shape[:2]
    scaled = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(scaled), 0, 1)
    stops = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(strength, stops, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    opacity = 0.75 * np.sqrt(strength)[..., None]
    return Image.fromarray(np.rint(image * (1 - opacity) + colours * opacity).astype(np.uint8))


def _batches(
    folder: Path, items: Sequence[Item], model: ModelMetadata
) -> Iterator[list[tuple[Item, NDArray[np.uint8]]]]:
    for start in range(0, len(items), _BATCH):
        group = []
        for item in items[start : start + _BATCH]:
            for place in places(folder, item):
                with suppress(ImageError):
                    group.append((item, decode_image(place, model.image_size, model.resize)))
                    break
        if group:
            yield group


def _shown(path: Path, model: ModelMetadata) -> NDArray[np.uint8]:
    """The image as the map covers it: stretched ones whole, others as the square that the model saw."""
    return decode_thumbnail(path, _SIDE) if model.resize == "stretch" else decode_image(path, _SIDE, model.resize)


def _cam_name(miss: str, taken: set[str]) -> str:
    path = PurePosixPath(miss)
    name = str(path.with_name(clip_end(path.stem, 240) + _ENDING))
    while name in taken:
        name = name.removesuffix(_ENDING) + f"_{_ENDING}"
    taken.add(name)
    return name
