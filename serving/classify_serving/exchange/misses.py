"""`miss/`: a copy of every image a model was wrong about, named `{true}_to_{predicted}_{filename}`.

The client and a training's evaluation leave the same folder.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from classify_serving.contract.text import printable

MISS: Final = "miss"
REVIEW: Final = "review"
_LONGEST: Final = 255
_PARTIAL: Final = ".partial-"
_CHUNK: Final = 1 << 20

Original = Path | Callable[[], BinaryIO]
"""What is copied: a local file, or a function that opens the content of one that is none."""


class CopyFolder:
    """A folder of copies of images, made when the first one comes.

    Args:
        folder: where.
        link: make hard links of local files, which take no space; a copy where the file system has none.
    """

    def __init__(self, folder: Path, link: bool = False) -> None:
        self.folder, self._link = folder, link

    def put(self, original: Original, name: str) -> str:
        """Copy a file to `name`, which may have one folder in it, and return the name that the copy got.

        The same content is never there twice under one name; another one of that name gets a hash of its content.

        Raises:
            OSError: it cannot be read, or the copy not be written.
        """
        folder = self._make_folder(PurePath(name).parent.name)
        target = folder / PurePath(name).name
        if os.path.lexists(target) and not _same_content(original, target):
            target = folder / _hashed(target.name, _digest(original)[:12])
        if not self._is_made(original, target):
            self._write(original, target)
        return target.relative_to(self.folder).as_posix()

    def _make_folder(self, name: str) -> Path:
        folder = self.folder / name
        while os.path.lexists(folder) and not folder.is_dir():
            # Only labels made for it give a folder the name of a copy.
            folder = folder.with_name(folder.name + "_")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _is_made(self, original: Original, target: Path) -> bool:
        """Whether the copy is there already, and of the kind that is asked for."""
        if not target.is_file() or target.is_symlink() or not _same_content(original, target):
            return False
        return not isinstance(original, Path) or original.samefile(target) == self._link

    def _write(self, original: Original, target: Path) -> None:
        partial = self.folder / f"{_PARTIAL}{os.getpid()}"
        # What a killed run left may be a link: writing through it would change an original.
        partial.unlink(missing_ok=True)
        if not (self._link and isinstance(original, Path) and _linked(original, partial)):
            _copy(original, partial)
        os.replace(partial, target)

    def remove(self, name: str) -> None:
        """Remove a copy made by an earlier run; a name that no run gave is not touched."""
        parts = PurePath(name).parts
        if not 1 <= len(parts) <= 2 or any(part != clip_end(safe_name(part), _LONGEST) for part in parts):
            return
        path = self.folder.joinpath(*parts)
        if path.is_file() or path.is_symlink():
            path.unlink()
        if len(parts) == 2:
            with suppress(OSError):
                path.parent.rmdir()

    def remove_partial(self) -> None:
        """Remove what killed runs left half-copied."""
        for partial in self.folder.glob(f"{_PARTIAL}*"):
            partial.unlink(missing_ok=True)


class MissFolder(CopyFolder):
    """The miss folder of a run.

    Args:
        output: the folder it is in.
        link: as for `Copies`.
        by_pair: put each pair of classes into a folder of its own, `{true}_to_{predicted}/{filename}`.
    """

    def __init__(self, output: Path, link: bool = False, by_pair: bool = False) -> None:
        super().__init__(output / MISS, link)
        self._name = pair_name if by_pair else miss_name

    def add(self, original: Original, true_class: str, predicted: str, file_name: str = "") -> str:
        """Copy a file (its name, if it is no local one, is `file_name`), and return the copy's name.

        Raises:
            OSError: as `put`.
        """
        if isinstance(original, Path):
            file_name = original.name
        return self.put(original, self._name(true_class, predicted, file_name))


def miss_name(true_class: str, predicted: str, file_name: str) -> str:
    """`{true}_to_{predicted}_{filename}` as one file name, whatever the labels hold, within 255 bytes.

    Characters that some file system refuses, and bytes that are no UTF-8, become `_`. A name that is too long
    loses its beginning, since its end tells files apart.
    """
    return _prefixed(f"{true_class}_to_{predicted}_", file_name)


def pair_name(true_class: str, predicted: str, file_name: str) -> str:
    """Likewise `{true}_to_{predicted}/{filename}`: a folder's name and a file's."""
    return (
        f"{clip_end(safe_name(f'{true_class}_to_{predicted}'), _LONGEST)}/{clip_start(safe_name(file_name), _LONGEST)}"
    )


def review_name(probability: float, predicted: str, file_name: str) -> str:
    """Likewise `{probability}_{predicted}_{filename}`, so that the least certain come first."""
    return _prefixed(f"{probability:.2f}_{predicted}_", file_name)


def _prefixed(prefix: str, file_name: str) -> str:
    prefix = safe_name(prefix)
    if len(prefix.encode()) > _LONGEST // 2:
        prefix = clip_end(prefix, _LONGEST // 2 - 1) + "_"
    return prefix + clip_start(safe_name(file_name), _LONGEST - len(prefix.encode()))


def _hashed(name: str, digest: str) -> str:
    stem, suffix = PurePath(name).stem, PurePath(name).suffix
    if len(suffix.encode()) > _LONGEST // 4:
        stem, suffix = name, ""
    return f"{clip_end(stem, _LONGEST - len(f'_{digest}{suffix}'.encode()))}_{digest}{suffix}"


def safe_name(text: str) -> str:
    """Text as a name that every file system takes and that stays in its folder."""
    return re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "_", printable(text)).lstrip(".") or "_"


def clip_end(text: str, most: int) -> str:
    """The beginning of a text, at most `most` bytes of UTF-8."""
    return text.encode()[:most].decode(errors="ignore")


def clip_start(text: str, most: int) -> str:
    """The end of a text, likewise."""
    return text.encode()[-most:].decode(errors="ignore").lstrip(".") or "_"


def _open(original: Original) -> BinaryIO:
    return original.open("rb") if isinstance(original, Path) else original()


def _same_content(original: Original, target: Path) -> bool:
    if not target.is_file():
        return False
    if isinstance(original, Path) and original.stat().st_size != target.stat().st_size:
        return False
    with _open(original) as first, target.open("rb") as second:
        while (chunk := first.read(_CHUNK)) == second.read(_CHUNK):
            if not chunk:
                return True
    return False


def _digest(original: Original) -> str:
    digest = hashlib.sha256()
    with _open(original) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _linked(original: Path, target: Path) -> bool:
    try:
        # A link to a symbolic link would lead nowhere from here.
        os.link(os.path.realpath(original), target)
    except OSError:
        return False
    return True


def _copy(original: Original, target: Path) -> None:
    if isinstance(original, Path):
        shutil.copy2(original, target)
        return
    with original() as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy, _CHUNK)
