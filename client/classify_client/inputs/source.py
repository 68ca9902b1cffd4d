"""One image to classify: where its content is, its name in the results, and the folders that may name its label."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classify_client.inputs.archives import Member, Stamp
from classify_serving.contract.folders import folder_label
from classify_serving.contract.images import Resize, decode_image
from classify_serving.contract.text import printable
from classify_serving.exchange.misses import Original


@dataclass(frozen=True)
class Source:
    r"""One image to classify.

    Attributes:
        original: the local file, or a function that opens the content of an image elsewhere and raises ImageError.
        name: its path relative to the input folder, with `/`, as the results call it; of several inputs, the path as
            given. Bytes that are not UTF-8 appear as `\xNN`.
        folders: names of the folders it lies in, nearest first, up to and including the input folder: the first that
            names a class of the model is its true label.
        stamp: identifies the state of its content when it was listed.
    """

    original: Original
    name: str
    folders: tuple[str, ...]
    stamp: Stamp

    @property
    def file_name(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]

    def decode(self, size: int, resize: Resize) -> NDArray[np.uint8]:
        """Read and decode it to uint8 [size,size,3], RGB, 0-255.

        Raises:
            ImageError: it cannot be read, or is not an image.
        """
        if isinstance(self.original, Path):
            return decode_image(self.original, size, resize)
        with self.original() as content:
            return decode_image(content, size, resize)

    def exists(self) -> bool:
        """Whether its content can still be read."""
        if isinstance(self.original, Path):
            return self.original.is_file()
        try:
            self.original().close()
        except Exception:
            return False
        return True


def local_source(path: Path, name: str, folders: tuple[str, ...]) -> Source:
    """A local file, called `name` in the results; `folders` as of `Source`."""
    return Source(path, printable(name), folders, _file_stamp(path))


def member_source(member: Member, container: str) -> Source:
    """An image in an archive or an object store; its name in the results begins with `container`."""
    folders = [part for part in (*member.name.split("/")[-2::-1], member.root) if part]
    name = "/".join(filter(None, (container, member.name)))
    return Source(member.open, printable(name), tuple(map(folder_label, folders)), member.stamp)


def _file_stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return Stamp(None, "")
    return Stamp(status.st_size, str(status.st_mtime_ns))
