"""Decoded images on disk, memory-mapped: a picture is decoded once, however often it is trained on.

A dataset has one cache for each size and resize mode: a file of pixels, and an index that says which row holds the
content of which SHA-256. Changed files are other contents, so nothing is ever out of date. The index is replaced
as the last step; rows of a reading that was killed are simply written again.
"""

import hashlib
import io
import os
from collections.abc import Sequence
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
from classify_training.progress import track_in_threads

Pixels = NDArray[np.uint8]
_INDEX: Final = "index.json"
_DECODER: Final = 1
"""To be raised when `decode_image` gives other pixels for the same file."""


@dataclass(frozen=True)
class Picture:
    """What is known of a content that can be read.

    Attributes:
        digest: its SHA-256 as hex.
        row: where its pixels are in the cache.
        look: its 64-bit perceptual hash (`imagehash.phash`) as hex.
    """

    digest: str
    row: int
    look: str


@dataclass(frozen=True)
class _Index:
    """The cache's table of contents; `pixels` is the name of the file they are in."""

    pixels: str
    pictures: tuple[Picture, ...]


class ImageCache:
    """The cache of one dataset.

    Args:
        folder: of all caches.
        root: the dataset.
        size: side of the images in pixels.
        resize: as in `decode_image`.
    """

    def __init__(self, folder: Path, root: Path, size: int, resize: Resize) -> None:
        name = hashlib.sha256(f"{_DECODER} {size} {resize} ".encode() + os.fsencode(root.resolve())).hexdigest()
        self.folder = folder / name[:24]
        self._size, self._resize = size, resize
        self._row_bytes = size * size * 3

    def read(self, paths: Sequence[Path], quiet: bool = False) -> tuple[list[Picture | ImageError], Pixels]:
        """Open every file once, on all cores: hashed, and decoded unless its content is known.

        Args:
            paths: the files.
            quiet: whether to show no progress bar.

        Returns:
            For each file what is known of it, or why it cannot be read; and the pixels, uint8 [M,S,S,3], RGB,
            0-255, memory-mapped read-only, by `Picture.row`.

        Raises:
            CacheError: the cache cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Other trainings that read the same dataset wait.
            with locked(self.folder, wait=True):
                index = self._load_index(len(paths))
                outcomes = self._decode(paths, index, quiet)
                # Rows of contents that have gone stay until they are the larger part: `_load_index`.
                pictures = {p.digest: p for p in index.pictures}
                pictures |= {outcome.digest: outcome for outcome in outcomes if isinstance(outcome, Picture)}
                self._store_index(_Index(index.pixels, tuple(pictures.values())))
                return outcomes, self._map(index.pixels)
        except OSError as error:
            raise CacheError(
                f"cannot write the image cache {self.folder} ({error_reason(error)}): free disk space,"
                " check permissions, or choose another --cache"
            ) from error

    def _load_index(self, files: int) -> _Index:
        new = _Index(f"pixels-{os.getpid()}-{os.urandom(4).hex()}", ())
        try:
            index = msgspec.json.decode((self.folder / _INDEX).read_bytes(), type=_Index)
            rows = (self.folder / index.pixels).stat().st_size // self._row_bytes
        except (OSError, msgspec.DecodeError):
            return new
        is_whole = all(picture.row < rows for picture in index.pictures)
        return index if is_whole and rows <= 2 * files + 1000 else new

    def _store_index(self, index: _Index) -> None:
        replace_file(self.folder / _INDEX, msgspec.json.encode(index))
        for path in self.folder.glob("pixels-*"):
            if path.name != index.pixels:
                path.unlink()

    def _map(self, name: str) -> Pixels:
        path, shape = self.folder / name, (-1, self._size, self._size, 3)
        if not path.stat().st_size:
            return np.empty((0, *shape[1:]), np.uint8)
        # As a plain array: slices of NumPy's own class for memory maps are slow to make.
        return np.asarray(np.memmap(path, np.uint8, mode="r").reshape(shape))

    def _decode(self, paths: Sequence[Path], index: _Index, quiet: bool) -> list[Picture | ImageError]:
        known = {picture.digest: picture for picture in index.pictures}
        # `next` on a count is atomic, so each thread gets a row of its own.
        rows = count(1 + max((picture.row for picture in index.pictures), default=-1))
        # Written with pwrite: a full disk is an error then, while writing to a memory map would kill the process.
        descriptor = os.open(self.folder / index.pixels, os.O_RDWR | os.O_CREAT, 0o644)
        try:

            def read(path: Path) -> Picture | ImageError:
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
                return Picture(digest, row, str(imagehash.phash(Image.fromarray(image))))

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
