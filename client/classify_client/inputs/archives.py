"""Images in zip and tar archives, read in place: nothing is unpacked."""

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final
from zipfile import ZipFile, ZipInfo, is_zipfile

from classify_client.errors import InputError
from classify_serving.contract.images import ImageError, is_image_name
from classify_serving.contract.text import error_reason

_TAR: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_SUFFIXES: Final = (".zip", *_TAR)

CONTENT_LIMIT: Final = 256 * 1024**2
"""Bytes that one image may have unpacked: what claims more is a bomb, not a picture."""
_SPOOL: Final = 64 * 1024**2


@dataclass(frozen=True)
class Member:
    """An image in an archive or an object store.

    Attributes:
        name: its path in there, with `/`; empty for the whole.
        root: what the outermost folder would be called if it were unpacked, or is.
        open: gives its content; raises ImageError.
        stamp: as of a `Source`.
        container: URL of what `name` is relative to, of an object store.
    """

    name: str
    root: str
    open: Callable[[], BinaryIO]
    stamp: tuple[str, str]
    container: str = ""


def is_archive(name: str) -> bool:
    """Whether a file of this name is taken for an archive."""
    return name.lower().endswith(_SUFFIXES)


def check_archive(path: Path) -> None:
    """See that a file is the archive its name says.

    Raises:
        InputError: it is not.
    """
    try:
        good = is_zipfile(path) if _is_zip(path) else tarfile.is_tarfile(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error_reason(error)}") from error
    except Exception:
        good = False
    if not good:
        raise InputError(f"{path} is broken or no archive: pack it again, or give its unpacked folder")


def archive_members(path: Path, in_order: bool = True) -> Iterator[Member]:
    """Yield the images of a `.zip` or `.tar` archive in its order; one that breaks off ends with a member that says so.

    Members of zip and plain tar files are read when they are opened. A compressed tar can only be read from front to
    back: as long as its members are needed, their content is in a temporary file without a name.

    Args:
        path: the archive.
        in_order: whether members are opened about as they are listed.

    Raises:
        InputError: a compressed tar is not to be read in order.
    """
    count = 0
    try:
        for member in _zip_members(path) if _is_zip(path) else _tar_members(path, in_order):
            yield member
            count += 1
    except InputError:
        raise
    except Exception as error:
        # Broken archives make the readers raise nearly anything, as broken images do.
        reason = f"archive broken after {count} images: {error_reason(error)}"
        yield Member("", "", partial(_refuse, reason), ("", ""))


def _is_zip(path: Path) -> bool:
    return path.name.lower().endswith(".zip")


def _stem(path: Path) -> str:
    return path.name[: -max(len(suffix) for suffix in _SUFFIXES if path.name.lower().endswith(suffix))]


def _zip_members(path: Path) -> Iterator[Member]:
    # Closed with the last member that can read from it.
    archive = ZipFile(path)
    for info in archive.infolist():
        if is_image_name(info.filename.rpartition("/")[2]):
            stamp = (str(info.file_size), f"crc {info.CRC:08x}")
            yield Member(info.filename, _stem(path), partial(_read_zipped, archive, info), stamp)


def _read_zipped(archive: ZipFile, info: ZipInfo) -> BinaryIO:
    if info.flag_bits & 1:
        raise ImageError(info.filename, "encrypted: unpack the archive with its password")
    if info.file_size > CONTENT_LIMIT:
        raise _too_large(info.filename)
    try:
        with archive.open(info) as file:
            return BytesIO(file.read(CONTENT_LIMIT))
    except Exception as error:
        raise ImageError(info.filename, error_reason(error)) from error


def _tar_members(path: Path, in_order: bool) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        compressed = isinstance(archive.fileobj, gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile)
        if compressed and not in_order:
            raise InputError(
                f"{path} can only be read from front to back, and --shuffle cannot:"
                " pack it as .zip or uncompressed .tar"
            )
        spool = _Spool()
        while (info := archive.next()) is not None:
            # Or the archive would remember all of them.
            archive.members.clear()  # type: ignore[attr-defined]
            if is_image_name(info.name.rpartition("/")[2]) and not info.isdir():
                stamp = (str(info.size), str(info.mtime))
                if not (content := _refusal(info)):
                    span = info.offset_data, info.size
                    content = spool.put(archive, info) if compressed else partial(_read_span, path, info.name, *span)
                yield Member(info.name, _stem(path), content, stamp)
        _check_end(archive)


def _check_end(archive: tarfile.TarFile) -> None:
    """The reader takes anything that is no header for the end; only zeros and nothing are."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise EOFError("unexpected content")


class _Spool:
    """Contents on their way through, in temporary files of which each goes with its last content."""

    def __init__(self) -> None:
        self._file = _Unnamed()

    def put(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], BinaryIO]:
        """Keep a member's content as long as what it returns, which opens it, in any thread."""
        start = self._file.content.tell()
        if start > _SPOOL:
            self._file, start = _Unnamed(), 0
        content = archive.extractfile(info)
        assert content is not None
        with content:
            shutil.copyfileobj(content, self._file.content)
        self._file.content.flush()
        return partial(self._file.read, start, info.size)


class _Unnamed:
    def __init__(self) -> None:
        self.content = TemporaryFile()  # noqa: SIM115 - open as long as anyone may read

    def read(self, start: int, size: int) -> BinaryIO:
        return BytesIO(os.pread(self.content.fileno(), size, start))

    def __del__(self) -> None:
        self.content.close()


def _refusal(info: tarfile.TarInfo) -> Callable[[], BinaryIO] | None:
    if not info.isreg() or info.issparse():
        return partial(_refuse, "a link or a device in an archive: unpack it")
    if info.size > CONTENT_LIMIT:
        return partial(_refuse, _too_large(info.name).reason)
    return None


def _read_span(path: Path, name: str, start: int, size: int) -> BinaryIO:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return BytesIO(file.read(size))
    except OSError as error:
        raise ImageError(name, error_reason(error)) from error


def _refuse(reason: str) -> BinaryIO:
    raise ImageError("", reason)


def _too_large(name: str) -> ImageError:
    return ImageError(name, f"more than {CONTENT_LIMIT // 1024**2} MiB unpacked: unpack it first")
