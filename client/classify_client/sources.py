"""From folders and files on the command line to a stream of images with the labels their folders give them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from classify_client.errors import InputError
from classify_client.outputs import holds_results
from classify_serving.folders import folder_label, printable, walk_images


@dataclass(frozen=True)
class Source:
    """One file to classify.

    Attributes:
        path: where it is.
        name: its path relative to the input folder, with `/`; what results call it. Of several inputs, the
            path as given. Bytes that are no UTF-8 appear as `\\xNN`.
        folders: names of the folders it lies in, nearest first, up to and with the input folder: the first that the
            model knows is its true label.
        stamp: size in bytes and modification time in ns when it was listed: the same file later has the same.
    """

    path: Path
    name: str
    folders: tuple[str, ...]
    stamp: tuple[str, str]

    @property
    def file_name(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]


def list_sources(inputs: Sequence[Path], output: Path | None = None) -> Iterator[Source]:
    """List the images of all inputs lazily, in the order given and sorted within each folder.

    Args:
        inputs: folders, searched with everything below them, and files, taken whatever their name is.
        output: the output folder; it and those of other runs are passed over, so that no copy of a miss is
            classified again.

    Raises:
        InputError: an input does not exist, a folder cannot be listed, or there is no image at all.
    """
    for given in inputs:
        if not given.exists():
            raise InputError(f"no file or folder {given}: correct the path")
    stream = _stream(inputs, output)
    first = next(stream, None)
    if first is None:
        names = ", ".join(str(path) for path in inputs)
        raise InputError(f"no images in {names}: give a folder with JPEG, PNG or other image files")
    return chain([first], stream)


def _stream(inputs: Sequence[Path], output: Path | None) -> Iterator[Source]:
    results = output and output.resolve()

    def is_output(folder: Path) -> bool:
        return folder.resolve() == results or holds_results(folder)

    for given in inputs:
        root = given if given.is_dir() else given.parent
        try:
            for path in walk_images(given, is_output) if given.is_dir() else (given,):
                yield _source(path, root, path.relative_to(root) if len(inputs) == 1 else path)
        except OSError as error:
            raise InputError(f"cannot list {error.filename}: {error.strerror}") from error


def _source(path: Path, root: Path, shown: Path) -> Source:
    folders = (*reversed(path.relative_to(root).parent.parts), root.name or root.resolve().name)
    return Source(
        path=path,
        name=printable(shown.as_posix()),
        folders=tuple(folder_label(folder) for folder in folders),
        stamp=_stamp(path),
    )


def _stamp(path: Path) -> tuple[str, str]:
    try:
        status = path.stat()
    except OSError:
        return "", ""
    return str(status.st_size), str(status.st_mtime_ns)
