"""Places that all machines of a cluster see: paths in a shared folder, and URLs in an object store."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow
from pyarrow import fs, parquet

from classify_client.errors import SettingsError
from classify_client.inputs.object_stores import tag_of

if TYPE_CHECKING:
    from upath import UPath

Location: TypeAlias = "Path | UPath"
"""A local path, or a place in an object store; `/`, `name`, `read_bytes` and so on are the same of both."""


def url_location(url: str) -> "UPath":
    """The place that a URL names, such as `s3://bucket/folder`.

    Raises:
        SettingsError: there is no such kind of store, or the package for it is not installed.
    """
    try:
        from upath import UPath

        # Other machines write what is listed here.
        place = UPath(url.rstrip("/"), use_listings_cache=False)
        # Only now the package for the store is imported.
        assert place.fs is not None
    except ImportError as error:
        raise SettingsError(f"{url}: {error}; if a package is missing, pip install it") from error
    except ValueError as error:
        raise SettingsError(f"{url}: {error}; give a URL such as s3://bucket/folder") from error
    return place


def arrow_path(place: Location) -> tuple[str, fs.FileSystem | None]:
    """A place for functions of Arrow and Ray: the path, and the file system that it is in; None for the local one."""
    if isinstance(place, Path):
        return str(place), None
    return place.path, fs.PyFileSystem(fs.FSSpecHandler(place.fs))


def entries(folder: Location) -> list[Any]:
    """What is in a folder, sorted by name; nothing if there is no such folder."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(folder.iterdir(), key=lambda place: place.name)
    return []


def make_folder(folder: Location) -> None:
    """Make a folder with its parents; object stores have no folders that must be made."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)


def remove_folder(folder: Location) -> None:
    """Remove a folder, if it is there, with everything in it."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with suppress(FileNotFoundError):
        folder.fs.rm(folder.path, recursive=True)


def state(place: Location) -> list[int | str] | None:
    """What changes with the content of a file: its size, and its time of change or tag; None if there is no file."""
    try:
        if isinstance(place, Path):
            status = place.stat()
            return [status.st_size, status.st_mtime_ns]
        entry = place.fs.info(place.path)
    except FileNotFoundError:
        return None
    return [entry.get("size") or 0, tag_of(entry)]


def read_table(place: Location, **options: Any) -> pyarrow.Table:
    """Read one Parquet file; `options` are those of `pyarrow.parquet.read_table`."""
    path, filesystem = arrow_path(place)
    return parquet.read_table(path, filesystem=filesystem, **options)


def write_table(table: pyarrow.Table, place: Location) -> None:
    """Write one Parquet file.

    Raises:
        OSError: it cannot be written; with the reason alone, and the path.
    """
    path, filesystem = arrow_path(place)
    try:
        parquet.write_table(table, path, filesystem=filesystem)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno), str(place)) if error.errno else error from error
