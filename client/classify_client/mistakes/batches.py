"""Open the images of results again, each of them once: content hash, input of the model, pictures for the report."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_client.results.reader import Item
from classify_serving.contract.images import ImageError, decode_image, decode_thumbnail
from classify_serving.contract.model import ModelMetadata

BATCH: Final = 32
PREVIEW_SIDE: Final = 320
"""Pixels."""


@dataclass(frozen=True)
class OpenedImage:
    """An image of the results and what was read from it.

    Attributes:
        item: the image.
        digest: SHA-256 of its content as hex.
        pixels: uint8 [S,S,3], RGB, as the model takes it; None if not wanted, or if it cannot be decoded.
        preview: uint8 [H,W,3], RGB, the part that the model sees, at most `PREVIEW_SIDE` wide and high; None likewise.
        thumbnail: for the report, as `data:` URI; empty likewise.
    """

    item: Item
    digest: str
    pixels: NDArray[np.uint8] | None = None
    preview: NDArray[np.uint8] | None = None
    thumbnail: str = ""


@dataclass(frozen=True)
class ImageReader:
    """What to read from each image besides its hash.

    Attributes:
        model: decode for this model; None for no pixels and no previews.
        previews: whether to make previews of misses that have a copy.
        draw: makes a thumbnail, as `data:` URI, from an image file's content; raises ImageError.
        drawn: the paths of the images that get a thumbnail.
        misses_only: whether only misses are decoded for the model.
    """

    model: ModelMetadata | None = None
    previews: bool = False
    draw: Callable[[BytesIO], str] | None = None
    drawn: frozenset[str] = frozenset()
    misses_only: bool = False

    def read(self, item: Item) -> OpenedImage | None:
        """Open an image; None if it has gone."""
        content = _content(item)
        if content is None:
            return None
        pixels = preview = None
        thumbnail = ""
        if self.model and (item.row.is_miss or not self.misses_only):
            with suppress(ImageError):
                pixels = decode_image(BytesIO(content), self.model.image_size, self.model.resize)
        if self.model and self.previews and item.copy:
            with suppress(ImageError):
                preview = _preview(content, self.model)
        if self.draw and item.row.path in self.drawn:
            with suppress(ImageError):
                thumbnail = self.draw(BytesIO(content))
        return OpenedImage(item, hashlib.sha256(content).hexdigest(), pixels, preview, thumbnail)


def open_images(items: Iterable[Item], reader: ImageReader, size: int = BATCH) -> Iterator[list[OpenedImage]]:
    """Open images on all cores, in batches and in their order; those that have gone are left out.

    Only a few are read ahead, so memory does not grow with their number.
    """
    opened = _read_ahead(items, reader)
    while batch := list(islice(opened, size)):
        yield batch


def _read_ahead(items: Iterable[Item], reader: ImageReader) -> Iterator[OpenedImage]:
    threads = os.cpu_count() or 1
    waiting: deque[Future[OpenedImage | None]] = deque()
    with ThreadPoolExecutor(threads, "open") as pool:
        for item in items:
            waiting.append(pool.submit(reader.read, item))
            if len(waiting) > 4 * threads and (first := waiting.popleft().result()):
                yield first
        for future in waiting:
            if last := future.result():
                yield last


def _content(item: Item) -> bytes | None:
    for path in item.candidate_paths:
        with suppress(OSError):
            # Another kind of file, such as a pipe, would be waited for.
            if path.is_file():
                return path.read_bytes()
    return None


def _preview(content: bytes, model: ModelMetadata) -> NDArray[np.uint8]:
    """The whole image if the model stretches it, otherwise the square that it sees."""
    if model.resize == "stretch":
        return decode_thumbnail(BytesIO(content), PREVIEW_SIDE)
    return decode_image(BytesIO(content), PREVIEW_SIDE, model.resize)
