"""Patterns that the shell did not expand, and lists of paths."""

import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, Final

from classify_client.inputs.archives import is_archive
from classify_serving.contract.folders import is_folder, may_be_read
from classify_serving.contract.images import is_image_name

_CHUNK: Final = 1 << 16


def has_wildcards(text: str) -> bool:
    """Whether a path contains `*`, `?` or `[`."""
    return any(character in text for character in "*?[")


def expand_glob(pattern: str, skip: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield the images, archives and folders that match a pattern, sorted within each folder, files before folders.

    `*`, `?` and `[...]` match within a name, `**` any folders; hidden names never match. Only the names of one folder
    are in memory at a time, whereas `glob.glob` would hold all paths.

    Args:
        pattern: relative or absolute.
        skip: whether to leave a folder out.
    """
    path = Path(pattern)
    return _expand(Path(path.anchor), path.relative_to(path.anchor).parts, skip)


def _expand(folder: Path, parts: tuple[str, ...], skip: Callable[[Path], bool]) -> Iterator[Path]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        if not rest:
            yield folder
            return
        yield from _expand(folder, rest, skip)
        for below in _matching(folder, "*", folders=True):
            if not below.is_symlink() and not skip(below):
                yield from _expand(below, parts, skip)
        return
    if not has_wildcards(part):
        found = folder / part
        if os.path.lexists(found):
            yield from _expand(found, rest, skip) if rest else (found,)
        return
    if not rest:
        yield from _matching(folder, part, folders=False)
    for found in _matching(folder, part, folders=True):
        if not skip(found):
            yield from _expand(found, rest, skip) if rest else (found,)


def _matching(folder: Path, pattern: str, folders: bool) -> Iterator[Path]:
    """The folders, or the images and archives, whose names match a pattern."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if fnmatchcase(entry.name, pattern)
                and not entry.name.startswith(".")
                and (is_folder(entry) if folders else _is_wanted(entry))
            )
    except NotADirectoryError:
        return
    yield from (folder / name for name in names)


def _is_wanted(entry: "os.DirEntry[str]") -> bool:
    return (is_image_name(entry.name) or is_archive(entry.name)) and may_be_read(entry)


def read_paths(file: BinaryIO) -> Iterator[str]:
    """Yield the paths in a list as they arrive, separated by NUL if there is one in the first chunk, else by newlines.

    Empty lines are skipped.
    """
    # `read1` returns what a pipe holds now; waiting for a full chunk would delay the first images.
    read = getattr(file, "read1", file.read)
    rest = read(_CHUNK).removeprefix(b"\xef\xbb\xbf")
    while not any(end in rest for end in (b"\n", b"\0")) and (chunk := read(_CHUNK)):
        rest += chunk
    separator = b"\0" if b"\0" in rest else b"\n"
    while True:
        *lines, rest = rest.split(separator)
        yield from filter(None, map(_path, lines))
        if not (chunk := read(_CHUNK)):
            break
        rest += chunk
    if rest := rest.rstrip(b"\r"):
        yield os.fsdecode(rest)


def _path(line: bytes) -> str:
    return os.fsdecode(line.removesuffix(b"\r"))
