"""Decode an image file into the model's input tensor.

Training and client both use this decoder, so that a served model gets the same pixels as in training.
"""

import ctypes
import logging
import warnings
from collections.abc import Callable
from contextlib import suppress
from errno import EINVAL
from os import PathLike, fspath
from pathlib import Path, PurePath
from stat import S_ISREG
from typing import BinaryIO, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, _imaging

from classify_serving.contract.text import error_reason

Resize = Literal["stretch", "pad", "crop"]
RESIZE_MODES: Final[tuple[Resize, ...]] = get_args(Resize)

IMAGE_SUFFIXES: Final = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".tga", ".pcx", ".jp2", ".j2k", ".avif", ".heic", ".heif"),
    }
)
"""File name endings, in lower case, that are treated as images. HEIC cannot be decoded; it is listed so that such a
file is reported as unreadable and not skipped silently."""

_HEIC: Final = frozenset({".heic", ".heif"})
_UNKNOWN: Final = "not an image, or in a format that cannot be read"

MAX_PIXELS: Final = 178_956_970
"""Larger images are refused before they are decoded: Pillow's limit against decompression bombs."""

MAX_ENCODED_PIXELS: Final = 2**25
"""The same limit for the signature `encoded`: 33,554,432 pixels, enough for a photograph of 33 megapixels.

It is lower than MAX_PIXELS because a server decodes images for several clients at the same time. TensorFlow needs up to
22 bytes for each pixel of a PNG (measured), so a request needs up to 740 MB for decoding, whatever the number of its
images, which are decoded one after the other.
"""

# An explicit list, because Pillow would also open PostScript, by running Ghostscript on the file.
_FORMATS: Final = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "ICO", "TGA", "PCX",
                   "JPEG2000", "AVIF")  # fmt: skip
_WHITE: Final = (255, 255, 255, 255)

# ImageError reports what is wrong with an image; a warning on stderr would break the caller's progress bar.
warnings.filterwarnings("ignore", module=r"PIL\.")
# A logger without any handler prints errors to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def _silence_libtiff() -> None:
    """Stop libtiff from printing to stderr, where Python's warning filters have no effect.

    A symbol lookup in Pillow's extension module also finds symbols of the libraries linked into it. If libtiff is
    linked in another way, the lookup fails and libtiff keeps printing.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


_silence_libtiff()


class ImageError(Exception):
    """An image that cannot be read.

    Attributes:
        path: the file.
        reason: why it cannot be read, in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image's, in upper or lower case; hidden files (`.name`) are no images."""
    return not name.startswith(".") and PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def decode_image(source: str | PathLike[str] | BinaryIO, size: int, resize: Resize = "stretch") -> NDArray[np.uint8]:
    """Decode one image to uint8 [size,size,3], RGB, 0-255.

    EXIF orientation is applied, transparent pixels are blended with white, 16-bit greyscale is scaled to 8 bits, and
    the first frame of an animation is used. Resizing is bilinear; a JPEG is decoded at a reduced scale if that scale
    is at least as large as the result.

    Args:
        source: a path, or a binary file open for reading; its attribute `name`, if any, appears in errors.
        size: side S of the square result in pixels.
        resize: how to make the image square: `stretch` ignores the aspect ratio, `pad` adds black bars, `crop` cuts
            out the centre.

    Raises:
        ImageError: the file is missing, unreadable, broken, not an image, or has more than 178,956,970 pixels
            (Pillow's limit against decompression bombs).
    """
    return _decode(source, lambda image: _reduce_scale(image, size, resize), lambda rgb: _RESIZERS[resize](rgb, size))


def fit_image(image: Image.Image, size: int, resize: Resize = "stretch") -> NDArray[np.uint8]:
    """Convert an image that is already open, as `decode_image` does for a file; `image` itself is not changed.

    Returns:
        uint8 [size,size,3], RGB, 0-255.

    Raises:
        ImageError: the image cannot be read.
    """
    try:
        return np.asarray(_RESIZERS[resize](_to_rgb(_upright(image.copy())), size), dtype=np.uint8)
    except Exception as error:
        raise ImageError(_name_of(getattr(image, "filename", "") or "<image>"), error_reason(error)) from error


def decode_thumbnail(source: str | PathLike[str] | BinaryIO, side: int) -> NDArray[np.uint8]:
    """Decode one image for display to uint8 [H,W,3], RGB, 0-255.

    The aspect ratio is kept and the longer side is at most `side` pixels; a small image is not enlarged. Otherwise
    like `decode_image`.

    Raises:
        ImageError: in the same cases as `decode_image`.
    """
    return _decode(source, lambda image: _reduce_scale(image, side, "pad"), lambda rgb: _shrink(rgb, side))


def _decode(
    source: str | PathLike[str] | BinaryIO,
    prepare: Callable[[Image.Image], None],
    fit: Callable[[Image.Image], Image.Image],
) -> NDArray[np.uint8]:
    path = _name_of(source)
    try:
        if isinstance(source, str | PathLike) and not S_ISREG(Path(source).stat().st_mode):
            raise OSError(EINVAL, "not a regular file")
        with Image.open(source, formats=_FORMATS) as image:
            prepare(image)
            return np.asarray(fit(_to_rgb(_upright(image))), dtype=np.uint8)
    except Image.DecompressionBombError:
        raise ImageError(path, f"too many pixels (more than {MAX_PIXELS:,}): scale it down") from None
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except UnidentifiedImageError:
        reason = "HEIC cannot be read: convert it to JPEG" if PurePath(path).suffix.lower() in _HEIC else _UNKNOWN
        raise ImageError(path, reason) from None
    except Exception as error:
        # For broken files, Pillow's parsers raise nearly any exception: struct.error, KeyError, SyntaxError ...
        is_of_system = isinstance(error, OSError) and error.strerror
        reason = error_reason(error)
        raise ImageError(path, reason if is_of_system else f"broken file ({reason})") from error


def _name_of(source: str | PathLike[str] | BinaryIO) -> str:
    if isinstance(source, str | PathLike):
        return fspath(source)
    return str(getattr(source, "name", "<image>"))


def _reduce_scale(image: Image.Image, size: int, resize: Resize) -> None:
    """Let the JPEG decoder skip detail that resizing would remove; other formats are not affected."""
    width, height = image.size
    long_side = max(width, height)
    if resize == "pad":
        image.draft(None, (max(1, width * size // long_side), max(1, height * size // long_side)))
    else:
        image.draft(None, (size, size))


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:
        # Broken EXIF data: the pixels themselves were read without an error.
        return image
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _wide_grey_to_rgb(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _wide_grey_to_rgb(image: Image.Image) -> Image.Image:
    """Scale greyscale of more than 8 bits to 0-255: 16-bit values are divided by 257, floats in 0-1 multiplied by 255.

    Values that already fit in 8 bits are kept, because some programs store 8-bit values in wider types.
    """
    grey = np.nan_to_num(np.asarray(image, dtype=np.float64))
    peak = grey.max(initial=0.0)
    if image.mode == "F":
        scale = 255.0 if peak <= 1.0 else 1.0
    else:
        scale = 1 / 257 if image.mode.startswith("I;16") or peak > 255 else 1.0
    return Image.fromarray(np.clip(np.rint(grey * scale), 0, 255).astype(np.uint8)).convert("RGB")


def _shrink(image: Image.Image, side: int) -> Image.Image:
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    return image


def _stretch(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _pad(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.pad(image, (size, size), Image.Resampling.BILINEAR)


def _crop(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


_RESIZERS: Final[dict[Resize, Callable[[Image.Image, int], Image.Image]]] = {
    "stretch": _stretch,
    "pad": _pad,
    "crop": _crop,
}
