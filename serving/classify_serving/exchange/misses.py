"""The folder `miss/`: a copy of every misclassified image, named `{true}_to_{predicted}_{filename}`.

The client and training's evaluation both write it.
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
"""What to copy: a local file, or a function that opens the content of an image that is not a local file."""


class CopyFolder:
    """A folder of copies of images, created with the first copy.

    Args:
        folder: path of the folder.
        link: make hard links instead of copies, which need no disk space; only for local files, and only where the
            file system allows it.
    """

    def __init__(self, folder: Path, link: bool = False) -> None:
        self.folder, self._link = folder, link

    def put(self, original: Original, name: str) -> str:
        """Copy an image to `name` (`file` or `folder/file`) and return the name of the copy.

        If another content has this name already, a hash of the content is added to the name; the same content is not
        copied again.

        Raises:
            OSError: the image cannot be read, or the copy cannot be written.
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
            # A copied file has this name already: possible only with labels chosen to cause it.
            folder = folder.with_name(folder.name + "_")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _is_made(self, original: Original, target: Path) -> bool:
        """Whether `target` is already a copy of this content, and a hard link exactly if links are wanted."""
        if not target.is_file() or target.is_symlink() or not _same_content(original, target):
            return False
        return not isinstance(original, Path) or original.samefile(target) == self._link

    def _write(self, original: Original, target: Path) -> None:
        partial = self.folder / f"{_PARTIAL}{os.getpid()}"
        # A killed run may have left a hard link here; writing to it would change the original image.
        partial.unlink(missing_ok=True)
        if not (self._link and isinstance(original, Path) and _linked(original, partial)):
            _copy(original, partial)
        os.replace(partial, target)

    def remove(self, name: str) -> None:
        """Remove a copy that an earlier run made; does nothing for a name that no run could have given."""
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
        """Remove incomplete copies that killed runs left."""
        for partial in self.folder.glob(f"{_PARTIAL}*"):
            partial.unlink(missing_ok=True)


class MissFolder(CopyFolder):
    """The folder `miss/` of a run.

    Args:
        output: the run's output folder, which contains `miss/`.
        link: as in `CopyFolder`.
        by_pair: use one folder per pair of classes, `{true}_to_{predicted}/{filename}`.
    """

    def __init__(self, output: Path, link: bool = False, by_pair: bool = False) -> None:
        super().__init__(output / MISS, link)
        self._name = pair_name if by_pair else miss_name

    def add(self, original: Original, true_class: str, predicted: str, file_name: str = "") -> str:
        """Copy a misclassified image and return the name of the copy, relative to `miss/`.

        Args:
            original: what to copy.
            true_class: the true class.
            predicted: the predicted class.
            file_name: the image's file name; used only if `original` is not a local file.

        Raises:
            OSError: the image cannot be read, or the copy cannot be written.
        """
        if isinstance(original, Path):
            file_name = original.name
        return self.put(original, self._name(true_class, predicted, file_name))


def miss_name(true_class: str, predicted: str, file_name: str) -> str:
    """The file name `{true}_to_{predicted}_{filename}`, valid on every file system and at most 255 bytes long.

    Characters that some file system forbids, and bytes that are not UTF-8, become `_`. A file name that is too long is
    cut at its beginning, because names in a folder usually differ at their end.
    """
    return _prefixed(f"{true_class}_to_{predicted}_", file_name)


def pair_name(true_class: str, predicted: str, file_name: str) -> str:
    """The name `{true}_to_{predicted}/{filename}`: a folder and a file, each made valid as in `miss_name`."""
    return (
        f"{clip_end(safe_name(f'{true_class}_to_{predicted}'), _LONGEST)}/{clip_start(safe_name(file_name), _LONGEST)}"
    )


def review_name(probability: float, predicted: str, file_name: str) -> str:
    """The file name `{probability}_{predicted}_{filename}`; sorted by name, the least certain images come first."""
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
    """Turn text into a file name that every file system accepts and that cannot point to another folder."""
    return re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "_", printable(text)).lstrip(".") or "_"


def clip_end(text: str, most: int) -> str:
    """Cut off the end of a text, so that at most `most` bytes of UTF-8 remain."""
    return text.encode()[:most].decode(errors="ignore")


def clip_start(text: str, most: int) -> str:
    """Cut off the beginning of a text, so that at most `most` bytes of UTF-8 remain; never empty or hidden."""
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
        # Link to the file itself: a relative symbolic link would be broken in another folder.
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
