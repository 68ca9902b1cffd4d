"""Listing the image files below a folder: one order and one set of rules for training and client."""

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from classify_serving.contract.images import is_image_name
from classify_serving.contract.text import printable


def walk_images(root: Path, skip: Callable[[Path], bool] = lambda folder: False) -> Iterator[Path]:
    """Yield the image files below `root` lazily, sorted by name within each folder, files before folders.

    Hidden files and folders are passed over, and so are pipes, sockets and devices. Symbolic links are followed,
    and a folder that links back to one of its own ancestors is entered only once. Folders that cannot be listed
    raise OSError.

    Args:
        root: the folder to list.
        skip: says of each folder below `root` whether to leave it out.
    """
    yield from _walk(os.fspath(root), skip, ())


def _walk(folder: str, skip: Callable[[Path], bool], ancestors: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in ancestors or (ancestors and skip(Path(folder))):
        return
    images, folders = [], []
    # Names alone are kept: a folder may hold millions.
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_image_name(entry.name) and may_be_read(entry):
                images.append(entry.name)
            elif not entry.name.startswith(".") and is_folder(entry):
                folders.append(entry.name)
    images.sort()
    for name in images:
        yield Path(folder, name)
    images.clear()
    for name in sorted(folders):
        yield from _walk(f"{folder}{os.sep}{name}", skip, (*ancestors, real))


def may_be_read(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a file, or a link to nowhere, which reading will tell; a pipe would be waited for."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        # A link to itself, or to where we may not look.
        return True


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def folder_label(name: str) -> str:
    """The label that a folder of this name gives: printable, and composed (Unicode NFC).

    macOS and Linux write accents differently; folders that look alike are one class.
    """
    return unicodedata.normalize("NFC", printable(name))
