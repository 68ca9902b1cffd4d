"""Listing the image files below a folder, in the same order and by the same rules for training and client."""

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from classify_serving.contract.images import is_image_name
from classify_serving.contract.text import printable


def _nothing_skipped(folder: Path) -> bool:
    return False


def _not_counted() -> None:
    pass


def walk_images(
    root: Path, skip: Callable[[Path], bool] = _nothing_skipped, on_other: Callable[[], None] = _not_counted
) -> Iterator[Path]:
    """Yield the image files below `root` one by one; arguments, order and errors as of `walk_folders`."""
    for folder, names in walk_folders(root, skip, on_other):
        for name in names:
            yield Path(folder, name)


def walk_folders(
    root: Path, skip: Callable[[Path], bool] = _nothing_skipped, on_other: Callable[[], None] = _not_counted
) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders from `root` on that have image files, with the sorted names of these.

    A folder comes before those in it, and these are sorted by name.

    Hidden files and folders are skipped, and so are pipes, sockets and devices. Symbolic links are followed; a folder
    that links back to one of its own ancestors is entered only once.

    Args:
        root: the folder to list.
        skip: called with each folder below `root`; true leaves the folder out.
        on_other: called for each file that is left out because its name does not end like that of an image.

    Raises:
        OSError: a folder cannot be listed.
    """
    yield from _walk(os.fspath(root), skip, on_other, ())


def _walk(
    folder: str, skip: Callable[[Path], bool], on_other: Callable[[], None], ancestors: tuple[str, ...]
) -> Iterator[tuple[str, list[str]]]:
    real = os.path.realpath(folder)
    if real in ancestors or (ancestors and skip(Path(folder))):
        return
    images, folders = [], []
    # Only names are kept in memory: a folder may hold millions of files.
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_image_name(entry.name) and may_be_read(entry):
                images.append(entry.name)
            elif entry.name.startswith("."):
                continue
            elif is_folder(entry):
                folders.append(entry.name)
            elif may_be_read(entry):
                on_other()
    if images:
        images.sort()
        yield folder, images
    for name in sorted(folders):
        yield from _walk(f"{folder}{os.sep}{name}", skip, on_other, (*ancestors, real))


def may_be_read(entry: "os.DirEntry[str]") -> bool:
    """Whether to try to read a folder's entry: it is a file, or a broken link, whose error reading then reports.

    Pipes, sockets and devices are left out, because reading one could block for ever.
    """
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        # A link to itself, or into a folder without permission.
        return True


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether a folder's entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def folder_label(name: str) -> str:
    """The class label for a folder's name: printable text, in Unicode normalisation form NFC.

    macOS and Linux may encode the same accented name differently; normalising makes both the same class.
    """
    return unicodedata.normalize("NFC", printable(name))
