"""The kinds of inputs: how each is recognised, checked and listed. A new kind is one class here, added to `KINDS`."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

from classify_client.errors import InputError
from classify_client.inputs.archives import archive_members, check_archive, is_archive
from classify_client.inputs.object_stores import remote_files
from classify_client.inputs.patterns import expand_glob, has_wildcards, read_paths
from classify_client.inputs.source import Source, local_source, member_source
from classify_client.inputs.urls import is_url
from classify_client.output_folder import holds_results
from classify_serving.contract.folders import folder_label, walk_folders


@dataclass(frozen=True)
class Listing:
    """How a run lists its inputs.

    Attributes:
        output: the output folder, a resolved path or a URL, which is skipped; None for none.
        in_order: whether the images are read in the order in which they are listed.
        single: whether there is only one input: then names in the results are relative to it.
        on_other: called for each file in a folder that is left out because its name is not that of an image.
    """

    output: Path | str | None = None
    in_order: bool = True
    single: bool = False
    on_other: Callable[[], None] = lambda: None

    def skips(self, folder: Path) -> bool:
        """Whether a folder holds results of a run, so that no copy of a miss is classified again."""
        return folder.resolve() == self.output or holds_results(folder)


class InputKind(ABC):
    """One kind of input.

    Attributes:
        is_list: whether it is a list of paths.
    """

    is_list: ClassVar[bool] = False

    def is_countable(self, given: str) -> bool:
        """Whether listing twice is possible and cheap, so that a progress bar can show the total."""
        return False

    @abstractmethod
    def matches(self, given: str) -> bool:
        """Whether an input, as written on the command line, is of this kind."""

    def check(self, given: str) -> None:
        """Refuse a wrong input before anything is done.

        Raises:
            InputError: it cannot be listed.
        """

    @abstractmethod
    def list(self, given: str, listing: Listing) -> Iterator[Source]:
        """List its images lazily.

        Raises:
            InputError, OSError: it cannot be listed.
        """


class StandardInput(InputKind):
    """`-`: a list of paths on standard input."""

    is_list = True

    def matches(self, given: str) -> bool:
        return given == "-"

    def list(self, given: str, listing: Listing) -> Iterator[Source]:
        return _list_paths(read_paths(sys.stdin.buffer), listing)


class ListFile(InputKind):
    """`@FILE`: a file with a list of paths."""

    is_list = True

    def matches(self, given: str) -> bool:
        return given.startswith("@")

    def check(self, given: str) -> None:
        if not Path(given[1:]).is_file():
            raise InputError(f"no list {given[1:]}: correct the path, or write ./{given} for a file of that name")

    def list(self, given: str, listing: Listing) -> Iterator[Source]:
        with Path(given[1:]).open("rb") as file:
            yield from _list_paths(read_paths(file), listing)


class ObjectStore(InputKind):
    """A URL such as `s3://bucket/folder`."""

    def matches(self, given: str) -> bool:
        return is_url(given)

    def list(self, given: str, listing: Listing) -> Iterator[Source]:
        for member in remote_files(given, listing.output):
            yield member_source(member, "" if listing.single else member.container)


class Folder(InputKind):
    """A local folder, with everything below it."""

    def is_countable(self, given: str) -> bool:
        return True

    def matches(self, given: str) -> bool:
        return Path(given).is_dir()

    def check(self, given: str) -> None:
        if holds_results(Path(given)):
            raise InputError(
                f"{given} is the output folder of a run: give a folder of images, or {given}/miss for its misses"
            )

    def list(self, given: str, listing: Listing) -> Iterator[Source]:
        root = Path(given)
        for folder, names in walk_folders(root, listing.skips, listing.on_other):
            place = Path(folder)
            inner = place.relative_to(root)
            labels = _labels((*reversed(inner.parts), root.name or root.resolve().name))
            prefix = (inner if listing.single else place).joinpath("_").as_posix()[:-1]
            for name in names:
                yield local_source(place / name, prefix + name, labels)


class Archive(InputKind):
    """A local `.zip` or `.tar` archive."""

    def matches(self, given: str) -> bool:
        return is_archive(given) and Path(given).is_file()

    def check(self, given: str) -> None:
        check_archive(Path(given))

    def list(self, given: str, listing: Listing) -> Iterator[Source]:
        path = Path(given)
        container = path.name if listing.single else path.as_posix()
        for member in archive_members(path, listing.in_order):
            yield member_source(member, container)


class File(InputKind):
    """A local file, whatever its name is; one that does not exist becomes a row with an error."""

    def is_countable(self, given: str) -> bool:
        return True

    def matches(self, given: str) -> bool:
        return os.path.lexists(given)

    def list(self, given: str, listing: Listing) -> Iterator[Source]:
        path = Path(given)
        yield local_source(path, path.name if listing.single else path.as_posix(), _labels(_written_folders(path)))


class Pattern(InputKind):
    """A quoted pattern such as `'images/**/*.jpg'`, which the shell did not expand."""

    def is_countable(self, given: str) -> bool:
        return not is_archive(given)

    def matches(self, given: str) -> bool:
        return has_wildcards(given)

    def check(self, given: str) -> None:
        if next(expand_glob(given, lambda folder: False), None) is None:
            raise InputError(f"no image, archive or folder matches {given}: correct the pattern")

    def list(self, given: str, listing: Listing) -> Iterator[Source]:
        return _list_paths(map(str, expand_glob(given, listing.skips)), listing)


KINDS: Final[Sequence[InputKind]] = (
    StandardInput(),
    ListFile(),
    ObjectStore(),
    Folder(),
    Archive(),
    File(),
    Pattern(),
)
"""In the order in which they are tried: what exists is taken as it is, even if its name looks like a pattern."""

_FILE: Final = File()
_IN_LISTS: Final[Sequence[InputKind]] = (ObjectStore(), Folder(), Archive())


def kind_of(given: str) -> InputKind:
    """The kind of an input of the command line.

    Raises:
        InputError: it is of no kind, so the path does not exist.
    """
    for kind in KINDS:
        if kind.matches(given):
            return kind
    raise InputError(f"no file or folder {given}: correct the path")


def _list_paths(paths: Iterator[str], listing: Listing) -> Iterator[Source]:
    """List the images of paths from a list or a pattern: URLs, folders, archives, and files, missing ones included."""
    among_others = replace(listing, single=False)
    for path in paths:
        kind = next((kind for kind in _IN_LISTS if kind.matches(path)), _FILE)
        yield from kind.list(path, among_others)


def _labels(folders: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(folder_label, folders))


def _written_folders(path: Path) -> tuple[str, ...]:
    """The folders in a path as it was written, nearest first."""
    parts = [part for part in path.parent.parts if part not in ("..", path.anchor)]
    return tuple(reversed(parts)) or (path.parent.resolve().name,)
