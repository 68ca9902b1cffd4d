"""Decoded images on disk, memory-mapped, so that every image is decoded only once.

A dataset has one cache for each size and resize mode: a file of pixels, and an index from the SHA-256 of a file's
content to a row of pixels. A changed file has another hash, so the cache is never out of date. The index is replaced
last; rows written by a process that was killed are written again.
"""

import hashlib
import io
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import imagehash
import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classify_serving.contract.images import ImageError, Resize, decode_image
from classify_serving.contract.text import error_reason
from classify_serving.files import locked, replace_file
from classify_training.errors import CacheError
from classify_training.progress import stage, track_in_threads

Pixels = NDArray[np.uint8]
_INDEX: Final = "index.json"
_DECODER: Final = 1
"""Must be increased when `decode_image` gives other pixels for the same file."""


class CachedImage(msgspec.Struct, frozen=True):
    """An image in the cache.

    Attributes:
        digest: SHA-256 of the file's content as hex.
        row: row of its pixels in the cache.
        phash: its 64-bit perceptual hash (`imagehash.phash`) as hex; the index on disk calls it `look`.
    """

    digest: str
    row: int
    phash: str = msgspec.field(name="look")


@dataclass(frozen=True)
class CacheIndex:
    """The images in the cache; `pixels` is the name of the file with their pixels."""

    pixels: str
    pictures: tuple[CachedImage, ...]


class ImageCache:
    """The cache of one dataset.

    Args:
        folder: folder of all caches.
        root: folder of the dataset.
        size: side of the images in pixels.
        resize: how an image is made square, as for `decode_image`.
    """

    def __init__(self, folder: Path, root: Path, size: int, resize: Resize) -> None:
        name = hashlib.sha256(f"{_DECODER} {size} {resize} ".encode() + os.fsencode(root.resolve())).hexdigest()
        self.folder = folder / name[:24]
        self._size, self._resize = size, resize
        self._row_bytes = size * size * 3

    def read(self, paths: Sequence[Path], quiet: bool = False) -> tuple[list[CachedImage | ImageError], Pixels]:
        """Hash every file, and decode those whose content is not in the cache, in several threads.

        Args:
            paths: the files.
            quiet: whether to show no progress bar.

        Returns:
            For each file its entry, or the error why it cannot be read; and the pixels, uint8 [M,S,S,3], RGB, 0-255,
            memory-mapped read-only, indexed by `CachedImage.row`.

        Raises:
            CacheError: the cache cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                try:
                    stack.enter_context(locked(self.folder))
                except BlockingIOError:
                    with stage("Waiting for another process that reads this dataset", quiet):
                        stack.enter_context(locked(self.folder, wait=True))
                index = self._load_index(len(paths))
                outcomes = self._decode(paths, index, quiet)
                # Rows of images that were deleted stay until they are the larger part: see `_load_index`.
                pictures = {p.digest: p for p in index.pictures}
                pictures |= {outcome.digest: outcome for outcome in outcomes if isinstance(outcome, CachedImage)}
                self._store_index(CacheIndex(index.pixels, tuple(pictures.values())))
                return outcomes, self._map(index.pixels)
        except OSError as error:
            raise CacheError(
                f"cannot write the image cache {self.folder} ({error_reason(error)}): free disk space,"
                " check permissions, or choose another --cache"
            ) from error

    def _load_index(self, files: int) -> CacheIndex:
        new = CacheIndex(f"pixels-{os.getpid()}-{os.urandom(4).hex()}", ())
        try:
            index = msgspec.json.decode((self.folder / _INDEX).read_bytes(), type=CacheIndex)
            rows = (self.folder / index.pixels).stat().st_size // self._row_bytes
        except (OSError, msgspec.DecodeError):
            return new
        is_whole = all(picture.row < rows for picture in index.pictures)
        return index if is_whole and rows <= 2 * files + 1000 else new

    def _store_index(self, index: CacheIndex) -> None:
        replace_file(self.folder / _INDEX, msgspec.json.encode(index))
        for path in self.folder.glob("pixels-*"):
            if path.name != index.pixels:
                path.unlink()

    def _map(self, name: str) -> Pixels:
        path, shape = self.folder / name, (-1, self._size, self._size, 3)
        if not path.stat().st_size:
            return np.empty((0, *shape[1:]), np.uint8)
        # As a plain array, because slices of np.memmap are slow to make.
        return np.asarray(np.memmap(path, np.uint8, mode="r").reshape(shape))

    def _decode(self, paths: Sequence[Path], index: CacheIndex, quiet: bool) -> list[CachedImage | ImageError]:
        known = {picture.digest: picture for picture in index.pictures}
        # `next` on a count is atomic, so every thread gets its own row.
        rows = count(1 + max((picture.row for picture in index.pictures), default=-1))
        # With pwrite a full disk is an error; writing to a memory map would kill the process.
        descriptor = os.open(self.folder / index.pixels, os.O_RDWR | os.O_CREAT, 0o644)
        try:

            def read(path: Path) -> CachedImage | ImageError:
                try:
                    content = path.read_bytes()
                except OSError as error:
                    return ImageError(str(path), error_reason(error))
                digest = hashlib.sha256(content).hexdigest()
                if digest in known:
                    return known[digest]
                try:
                    image = decode_image(_named(content, path), self._size, self._resize)
                except ImageError as error:
                    return error
                row = next(rows)
                _write_all(descriptor, image.tobytes(), row * self._row_bytes)
                return CachedImage(digest, row, str(imagehash.phash(Image.fromarray(image))))

            return list(track_in_threads(read, paths, "Reading images", quiet))
        finally:
            os.close(descriptor)


def _named(content: bytes, path: Path) -> io.BytesIO:
    stream = io.BytesIO(content)
    stream.name = str(path)
    return stream


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
