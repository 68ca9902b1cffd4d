"""From what the command line names to a stream of images with the labels their folders give them."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classify_client.errors import InputError
from classify_client.inputs.archives import Member, archive_members, check_archive, is_archive
from classify_client.inputs.object_stores import is_url, remote_files
from classify_client.inputs.patterns import expand_glob, has_wildcards, read_paths
from classify_client.inputs.selection import Selection, select
from classify_client.output_folder import holds_results
from classify_serving.contract.folders import folder_label, walk_images
from classify_serving.contract.images import Resize, decode_image
from classify_serving.contract.text import error_reason, printable
from classify_serving.exchange.misses import Original


@dataclass(frozen=True)
class Source:
    """One file to classify.

    Attributes:
        original: where it is, or what opens its content, if it is no local file; that raises ImageError.
        name: its path relative to the input folder, with `/`; what results call it. Of several inputs, the
            path as given. Bytes that are no UTF-8 appear as `\\xNN`.
        folders: names of the folders it lies in, nearest first, up to and with the input folder: the first that the
            model knows is its true label.
        stamp: what it was when it was listed: bytes, and time of its last change in ns; in an archive its checksum
            or time, in an object store its tag or time. The same file later has the same; empty if not known.
    """

    original: Original
    name: str
    folders: tuple[str, ...]
    stamp: tuple[str, str]

    @property
    def file_name(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]

    def decode(self, size: int, resize: Resize) -> NDArray[np.uint8]:
        """Read and decode it to uint8 [size,size,3], RGB, 0-255.

        Raises:
            ImageError: it cannot be read, or is no image.
        """
        if isinstance(self.original, Path):
            return decode_image(self.original, size, resize)
        with self.original() as content:
            return decode_image(content, size, resize)

    def is_there(self) -> bool:
        """Whether its content can still be had."""
        if isinstance(self.original, Path):
            return self.original.is_file()
        try:
            self.original().close()
        except Exception:
            return False
        return True


def list_sources(selection: Selection, output: Path | None = None) -> Iterator[Source]:
    """List the selected images of all inputs lazily, in the order given and sorted within each folder.

    Args:
        selection: the inputs, and which of their images. Inputs are folders, searched with everything below them;
            files, taken whatever their name is; archives; quoted patterns with `*`, `?`, `[...]` and `**`; URLs;
            `@FILE` and `-` for lists of any of these but patterns.
        output: the output folder; it and those of other runs are passed over, so that no copy of a miss is
            classified again.

    Raises:
        InputError: an input does not exist or cannot be listed, or there is no image at all.
    """
    for given in selection.inputs:
        _check(given)
    stream = select(_stream(selection, output), selection)
    first = next(stream, None)
    if first is None:
        names = ", ".join(selection.inputs)
        if selection.include or selection.exclude:
            raise InputError(f"no images in {names} that --include and --exclude leave: change those")
        if all(given == "-" or given.startswith("@") for given in selection.inputs):
            raise InputError(f"no paths in {names}: write one in each line")
        raise InputError(f"no images in {names}: give a folder with JPEG, PNG or other image files")
    return chain([first], stream)


def _check(given: str) -> None:
    """Refuse a mistyped input before anything is done."""
    if given == "-" or is_url(given):
        return
    if given.startswith("@"):
        if not Path(given[1:]).is_file():
            raise InputError(f"no list {given[1:]}: correct the path, or write ./{given} for a file of that name")
    elif os.path.lexists(given):
        if is_archive(given) and not Path(given).is_dir():
            check_archive(Path(given))
    elif not has_wildcards(given):
        raise InputError(f"no file or folder {given}: correct the path")
    elif next(expand_glob(given, lambda folder: False), None) is None:
        raise InputError(f"no image, archive or folder is like {given}: correct the pattern")


def _stream(selection: Selection, output: Path | None) -> Iterator[Source]:
    listing = _Listing(output and output.resolve(), selection.shuffle is None)
    alone = len(selection.inputs) == 1
    for given in selection.inputs:
        try:
            yield from listing.of_input(given, alone)
        except OSError as error:
            raise InputError(f"cannot list {error.filename or given}: {error_reason(error)}") from error


@dataclass(frozen=True)
class _Listing:
    """Lists inputs; `results` is the output folder, `in_order` whether sources are read in the order of the list."""

    results: Path | None
    in_order: bool

    def of_input(self, given: str, alone: bool) -> Iterator[Source]:
        if given == "-":
            yield from self._of_list(read_paths(sys.stdin.buffer))
        elif given.startswith("@"):
            with Path(given[1:]).open("rb") as file:
                yield from self._of_list(read_paths(file))
        elif has_wildcards(given) and not is_url(given) and not os.path.lexists(given):
            for path in expand_glob(given, self._is_output):
                yield from self._of_path(str(path), alone=False)
        else:
            yield from self._of_path(given, alone)

    def _of_list(self, paths: Iterator[str]) -> Iterator[Source]:
        for path in paths:
            yield from self._of_path(path, alone=False)

    def _of_path(self, given: str, alone: bool) -> Iterator[Source]:
        path = Path(given)
        if is_url(given):
            yield from (_outside(member, "" if alone else member.container) for member in remote_files(given))
        elif path.is_dir():
            for image in walk_images(path, self._is_output):
                inner = image.relative_to(path)
                folders = (*reversed(inner.parent.parts), path.name or path.resolve().name)
                yield _local(image, inner if alone else image, folders)
        elif is_archive(given) and path.is_file():
            shown = path.name if alone else path.as_posix()
            yield from (_outside(member, shown) for member in archive_members(path, self.in_order))
        else:
            yield _local(path, Path(path.name) if alone else path, _written_folders(path))

    def _is_output(self, folder: Path) -> bool:
        return folder.resolve() == self.results or holds_results(folder)


def _written_folders(path: Path) -> tuple[str, ...]:
    """The folders in a path as it was written, nearest first."""
    parts = [part for part in path.parent.parts if part not in ("..", path.anchor)]
    return tuple(reversed(parts)) or (path.parent.resolve().name,)


def _local(path: Path, shown: Path, folders: Sequence[str]) -> Source:
    return Source(path, printable(shown.as_posix()), tuple(map(folder_label, folders)), _stamp(path))


def _outside(member: Member, container: str) -> Source:
    """A file in an archive or an object store; `container` is what goes before its name."""
    folders = [part for part in (*member.name.split("/")[-2::-1], member.root) if part]
    name = "/".join(filter(None, (container, member.name)))
    return Source(member.open, printable(name), tuple(map(folder_label, folders)), member.stamp)


def _stamp(path: Path) -> tuple[str, str]:
    try:
        status = path.stat()
    except OSError:
        return "", ""
    return str(status.st_size), str(status.st_mtime_ns)
