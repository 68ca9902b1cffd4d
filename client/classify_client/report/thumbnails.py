"""Small pictures inside the page: bounded in number and bytes, whatever the run held."""

import io
import os
from base64 import b64encode
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from PIL import Image

from classify_serving.contract.images import ImageError, decode_thumbnail

SIDE: Final = 160
"""Longest side in pixels: sharp at the size it is shown on screens of double density."""
_QUALITY: Final = 78
_TINY: Final = 48


def data_uri(image: Image.Image) -> str:
    """An image as `data:` URI: WebP, lossless for pictures so small that each pixel shows."""
    stream = io.BytesIO()
    if max(image.size) <= _TINY:
        image.save(stream, "WEBP", lossless=True)
    else:
        image.save(stream, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + b64encode(stream.getvalue()).decode()


def thumbnail(paths: Iterable[Path]) -> str:
    """A thumbnail of the first of these files that can be read, as `data:` URI; empty if none can."""
    for path in paths:
        with suppress(ImageError):
            return data_uri(Image.fromarray(decode_thumbnail(path, SIDE)))
    return ""


def thumbnails(
    files: Iterable[tuple[Path, ...]], most_bytes: int, draw: Callable[[Iterable[Path]], str] = thumbnail
) -> list[str]:
    """Thumbnails of many pictures in their order, on all cores; those after `most_bytes` are empty.

    Args:
        files: of each picture, the places to look for it.
        most_bytes: of all URIs together.
        draw: makes one.
    """
    drawn: list[str] = []
    room = most_bytes
    with ThreadPoolExecutor(os.cpu_count() or 1, "thumbnail") as pool:
        for uri in pool.map(draw, files):
            room -= len(uri)
            drawn.append(uri if room >= 0 else "")
    return drawn
