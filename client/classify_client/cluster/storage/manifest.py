"""The images of a run as Parquet files, from which the processes of a cluster read what to classify."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow

from classify_client.cluster.storage.location import Location, entries, make_folder, read_table, write_table
from classify_client.errors import InputError
from classify_client.inputs.archives import Stamp
from classify_client.inputs.object_stores import RemoteFile, remote_file
from classify_client.inputs.source import Source
from classify_client.inputs.urls import is_url

POSITION: Final = "position"
"""Name of the column with the number of an image in the run, from 0."""

_SCHEMA: Final = pyarrow.schema(
    [
        (POSITION, pyarrow.int64()),
        ("name", pyarrow.string()),
        # Names of files are bytes, which need not be UTF-8.
        ("location", pyarrow.binary()),
        ("folders", pyarrow.list_(pyarrow.string())),
        ("size", pyarrow.int64()),
        ("modified", pyarrow.string()),
    ]
)
_ROWS_PER_FILE: Final = 1 << 16


class ManifestWriter:
    """Writes images with their positions into new files of a folder; only those of one file are in memory.

    Args:
        folder: is made.

    Raises (all methods):
        OSError: a file cannot be written.
    """

    def __init__(self, folder: Location) -> None:
        make_folder(folder)
        self._folder = folder
        self._records: list[dict[str, Any]] = []
        self.count = 0

    def add(self, position: int, source: Source) -> None:
        """Add an image.

        Raises:
            InputError: it lies in an archive, which other machines cannot open.
        """
        self._records.append(_record(position, source))
        self.count += 1
        if len(self._records) == _ROWS_PER_FILE:
            self.close()

    def close(self) -> None:
        """Write what is in memory."""
        if self._records:
            write_table(
                pyarrow.Table.from_pylist(self._records, _SCHEMA),
                self._folder / f"{self._records[0][POSITION]:012}.parquet",
            )
            self._records.clear()


def first_image(folder: Location) -> pyarrow.Table | None:
    """The part of a manifest with its first image only; None if it has none."""
    files = entries(folder)
    return read_table(files[0]).slice(0, 1) if files else None


def manifest_of(source: Source) -> pyarrow.Table:
    """A manifest of one image; errors as for `ManifestWriter.add`."""
    return pyarrow.Table.from_pylist([_record(0, source)], _SCHEMA)


def read_manifest(table: pyarrow.Table) -> Iterator[tuple[int, Source]]:
    """The images of a part of a manifest, with their positions."""
    for record in table.to_pylist():
        yield record[POSITION], _source(record)


def find_images(folders: Iterable[Location], positions: Sequence[int]) -> dict[int, Source]:
    """The images with these positions in some manifests; of each file, only row groups that may have one are read."""
    wanted, found = sorted(positions), dict[int, Source]()
    for path in (path for folder in folders for path in entries(folder) if wanted):
        found |= dict(read_manifest(read_table(path, filters=[(POSITION, "in", wanted)])))
    return found


def _record(position: int, source: Source) -> dict[str, Any]:
    return {
        POSITION: position,
        "name": source.name,
        "location": os.fsencode(_location(source)),
        "folders": list(source.folders),
        "size": source.stamp.size,
        "modified": source.stamp.modified,
    }


def _location(source: Source) -> str:
    original = source.original
    if isinstance(original, Path):
        # Processes on other machines have another working directory.
        return str(original.absolute())
    if isinstance(original, RemoteFile) and (url := original.url):
        return url
    raise InputError(
        f"{source.name} is in an archive, which the machines of a cluster cannot share: unpack it into a folder"
    )


def _source(record: Mapping[str, Any]) -> Source:
    location = os.fsdecode(record["location"])
    original = remote_file(location, record["size"]) if is_url(location) else Path(location)
    stamp = Stamp(record["size"], record["modified"])
    return Source(original, record["name"], tuple(record["folders"]), stamp)
