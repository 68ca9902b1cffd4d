"""Small pictures inside the report."""

import io
from base64 import b64encode
from typing import BinaryIO, Final

from PIL import Image

from classify_serving.contract.images import decode_thumbnail

SIDE: Final = 160
"""Longest side in pixels: twice the size at which it is shown, for screens of high pixel density."""
_QUALITY: Final = 78
_TINY: Final = 48
_STORED_SIDE: Final = 96
_STORED_QUALITY: Final = 82


def thumbnail(content: BinaryIO) -> str:
    """A thumbnail of an image file as `data:` URI.

    Raises:
        ImageError: it cannot be read.
    """
    return data_uri(Image.fromarray(decode_thumbnail(content, SIDE)))


def small(picture: Image.Image) -> str:
    """A thumbnail of a picture in memory as `data:` URI; the picture itself is not changed."""
    copy = picture.copy()
    copy.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    return data_uri(copy)


def data_uri(image: Image.Image) -> str:
    """An image as `data:` URI: WebP, lossless if it is so small that each pixel can be seen."""
    stream = io.BytesIO()
    if max(image.size) <= _TINY:
        image.save(stream, "WEBP", lossless=True)
    else:
        image.save(stream, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + b64encode(stream.getvalue()).decode()


def stored_thumbnail(picture: Image.Image) -> bytes:
    """A thumbnail of a picture in memory as a small JPEG file, which is made in a fraction of a millisecond."""
    copy = picture.copy()
    copy.thumbnail((_STORED_SIDE, _STORED_SIDE), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    copy.save(stream, "JPEG", quality=_STORED_QUALITY)
    return stream.getvalue()


def stored_uri(thumbnail: bytes) -> str:
    """A stored thumbnail as `data:` URI; empty if there is none."""
    return "data:image/jpeg;base64," + b64encode(thumbnail).decode() if thumbnail else ""
