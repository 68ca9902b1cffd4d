"""Images in zip and tar archives, read in place without unpacking."""

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
from typing import BinaryIO, Final, NamedTuple
from zipfile import ZipFile, ZipInfo, is_zipfile

from classify_client.errors import InputError
from classify_serving.contract.images import ImageError, is_image_name
from classify_serving.contract.text import error_reason

_TAR: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_SUFFIXES: Final = (".zip", *_TAR)

CONTENT_LIMIT: Final = 256 * 1024**2
"""Maximum bytes of one unpacked image: a larger one is a decompression bomb, not a picture."""
_SPOOL: Final = 64 * 1024**2
_CHUNK: Final = 1024**2


class Stamp(NamedTuple):
    """Identifies the state of an image's content; the same file later has the same stamp.

    Attributes:
        size: in bytes; None if not known.
        modified: time of the last change in ns since 1970; in an archive the checksum or time, in an object store the
            tag or time. Empty if not known.
    """

    size: int | None
    modified: str


@dataclass(frozen=True)
class Member:
    """An image in an archive or an object store.

    Attributes:
        name: its path there, with `/`; empty for the archive as a whole.
        root: name of the outermost folder.
        open: opens its content; raises ImageError.
        stamp: identifies the state of its content.
        container: URL that `name` is relative to; empty in an archive.
    """

    name: str
    root: str
    open: Callable[[], BinaryIO]
    stamp: Stamp
    container: str = ""


def is_archive(name: str) -> bool:
    """Whether a file of this name counts as an archive."""
    return name.lower().endswith(_SUFFIXES)


def check_archive(path: Path) -> None:
    """Check that a file is the archive that its name says.

    Raises:
        InputError: it is not, or cannot be read.
    """
    try:
        good = is_zipfile(path) if _is_zip(path) else tarfile.is_tarfile(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error_reason(error)}") from error
    except Exception:
        good = False
    if not good:
        raise InputError(f"{path} is broken or not an archive: pack it again, or give its unpacked folder")


def archive_members(path: Path, in_order: bool = True) -> Iterator[Member]:
    """Yield the images of a `.zip` or `.tar` archive in its order; a broken one ends with a member that says so.

    Members of zip and uncompressed tar files are read when they are opened. A compressed tar can only be read from
    front to back: while its members are needed, their content is in an unnamed temporary file.

    Args:
        path: the archive.
        in_order: whether members are opened in roughly the order in which they are listed.

    Raises:
        InputError: the archive is a compressed tar and `in_order` is false.
    """
    count = 0
    try:
        for member in _zip_members(path) if _is_zip(path) else _tar_members(path, in_order):
            yield member
            count += 1
    except InputError:
        raise
    except Exception as error:
        # Broken archives can raise almost any exception, as broken images do.
        reason = f"archive broken after {count} images: {error_reason(error)}"
        yield Member("", "", partial(_refuse, reason), Stamp(None, ""))


def _is_zip(path: Path) -> bool:
    return path.name.lower().endswith(".zip")


def _stem(path: Path) -> str:
    return path.name[: -max(len(suffix) for suffix in _SUFFIXES if path.name.lower().endswith(suffix))]


def _zip_members(path: Path) -> Iterator[Member]:
    # Closed by garbage collection after the last member that can read from it.
    archive = ZipFile(path)
    for info in archive.infolist():
        if is_image_name(info.filename.rpartition("/")[2]):
            stamp = Stamp(info.file_size, f"crc {info.CRC:08x}")
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
                f"--shuffle cannot read {path}, a compressed tar, which is only readable from front to back:"
                " pack it as .zip or uncompressed .tar"
            )
        spool = _Spool()
        while (info := archive.next()) is not None:
            # Otherwise the archive object would keep all of them in memory.
            archive.members.clear()  # type: ignore[attr-defined]
            if is_image_name(info.name.rpartition("/")[2]) and not info.isdir():
                stamp = Stamp(info.size, str(info.mtime))
                if not (content := _refusal(info)):
                    span = info.offset_data, info.size
                    content = spool.put(archive, info) if compressed else partial(_read_span, path, info.name, *span)
                yield Member(info.name, _stem(path), content, stamp)
        _check_end(archive, compressed)


def _check_end(archive: tarfile.TarFile, compressed: bool) -> None:
    """Check that a tar really ends here: `tarfile` takes everything that is not a header for the end.

    A compressed tar is read to its last byte, because only then its checksum is compared.
    """
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise EOFError("unexpected content")
    while compressed and archive.fileobj.read(_CHUNK):
        pass


class _Spool:
    """Contents of members that are still needed, in temporary files that are deleted with their last content."""

    def __init__(self) -> None:
        self._file = _Unnamed()

    def put(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], BinaryIO]:
        """Store a member's content; gives a function that opens it, from any thread, and keeps it alive."""
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
        self.content = TemporaryFile()  # noqa: SIM115 - open as long as a member may be read

    def read(self, start: int, size: int) -> BinaryIO:
        return BytesIO(os.pread(self.content.fileno(), size, start))

    def __del__(self) -> None:
        self.content.close()


def _refusal(info: tarfile.TarInfo) -> Callable[[], BinaryIO] | None:
    if not info.isreg() or info.issparse():
        return partial(_refuse, "a link or device inside an archive: unpack it")
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
