"""The rows that the processes of a cluster write: Parquet files in one folder, each with the rows of some images."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import compute, parquet

from classify_client.cluster.storage.location import (
    Location,
    arrow_path,
    entries,
    make_folder,
    read_table,
    remove_folder,
    write_table,
)
from classify_client.cluster.storage.manifest import POSITION
from classify_client.results.formats import arrow_table
from classify_client.results.rows import Row, from_record

_ROWS_PER_PART: Final = 1 << 13
_READS_AT_ONCE: Final = 8


def to_part(rows: Sequence[Row], positions: Sequence[int], top_k: int) -> pyarrow.Table:
    """Rows as they are written, with the positions of their images in the run."""
    return arrow_table(rows, top_k).append_column(POSITION, pyarrow.array(positions, pyarrow.int64()))


class PartWriter:
    """Writes rows into new files of a folder; only those of one file are in memory.

    Args:
        folder: is made.
        name: with which the names of the files begin.
        top_k: number of classes in a row, 1-5.

    Raises (all methods):
        OSError: a file cannot be written.
    """

    def __init__(self, folder: Location, name: str, top_k: int) -> None:
        make_folder(folder)
        self._folder, self._name, self._top_k = folder, name, top_k
        self._rows: list[Row] = []
        self._positions: list[int] = []
        self.count = 0

    def add(self, position: int, row: Row) -> None:
        """Add the row of the image at a position."""
        self._rows.append(row)
        self._positions.append(position)
        self.count += 1
        if len(self._rows) == _ROWS_PER_PART:
            self.close()

    def close(self) -> None:
        """Write what is in memory."""
        if self._rows:
            path = self._folder / f"{self._name}-{self._positions[0]:012}.parquet"
            write_table(to_part(self._rows, self._positions, self._top_k), path)
            self._rows.clear()
            self._positions.clear()


@dataclass(frozen=True)
class Part:
    """A file with rows.

    Attributes:
        path: of the file.
        rows: number of its rows.
        first: the lowest position in it.
    """

    path: Location
    rows: int
    first: int


def find_parts(folder: Location) -> list[Part]:
    """The files of a folder, without those that a killed process left half-written."""
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        return [part for part in pool.map(_part, entries(folder)) if part]


def _part(path: Location) -> Part | None:
    where, filesystem = arrow_path(path)
    try:
        metadata = parquet.read_metadata(where, filesystem=filesystem)
    except (pyarrow.ArrowInvalid, OSError):
        if isinstance(path, Path):
            return None
        # No file in an object store is half-written.
        raise
    column = metadata.schema.names.index(POSITION)
    groups = [metadata.row_group(number).column(column).statistics for number in range(metadata.num_row_groups)]
    first = min((int(group.min) for group in groups if group and group.has_min_max), default=0)
    return Part(path, metadata.num_rows, first)


def count_rows(parts: Iterable[Part]) -> int:
    """How many rows the files have, images that were answered twice included."""
    return sum(part.rows for part in parts)


def count_images(parts: Iterable[Part]) -> int:
    """How many images have a row in the files, each of them once."""
    return sum(len(table) for table in merge(parts, [POSITION]))


def rows_of(table: pyarrow.Table) -> Iterator[Row]:
    """A table as rows."""
    return map(from_record, table.to_pylist())


def merge(parts: Iterable[Part], columns: Sequence[str] | None = None) -> Iterator[pyarrow.Table]:
    """All rows as tables in the order of their positions, each position once.

    A merge of sorted runs: in memory are only the files whose ranges of positions overlap, and the next few.

    Args:
        parts: the files.
        columns: what is read of them, the position included; None for everything.
    """
    in_order = sorted(parts, key=lambda part: part.first)
    tables = read_ahead(in_order, columns)
    heap: list[tuple[int, int, pyarrow.Table | None]] = [
        (part.first, number, None) for number, part in enumerate(in_order)
    ]
    done = -1
    while heap:
        # Files that were not read yet leave the heap in the order in which they are read.
        _, number, table = heapq.heappop(heap)
        table = next(tables).sort_by(POSITION) if table is None else table
        positions = _positions(table)
        start = int(np.searchsorted(positions, done, "right"))
        end = int(np.searchsorted(positions, heap[0][0], "right")) if heap else len(positions)
        if end > start:
            done = int(positions[end - 1])
            yield from _without_repetition(table.slice(start, end - start))
        if end < len(positions):
            heapq.heappush(heap, (int(positions[end]), number, table.slice(end)))


def read_ahead(parts: Iterable[Part], columns: Sequence[str] | None = None) -> Iterator[pyarrow.Table]:
    """Read files, or some columns of them, in their order, a few of them at once."""
    read = partial(read_table, columns=columns)
    remaining, waiting = iter(parts), deque[Future[pyarrow.Table]]()
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        for part in islice(remaining, _READS_AT_ONCE):
            waiting.append(pool.submit(read, part.path))
        while waiting:
            table = waiting.popleft().result()
            waiting.extend(pool.submit(read, part.path) for part in islice(remaining, 1))
            yield table


def _positions(table: pyarrow.Table) -> NDArray[np.int64]:
    positions: NDArray[np.int64] = table[POSITION].to_numpy()
    return positions


def _without_repetition(table: pyarrow.Table) -> Iterator[pyarrow.Table]:
    positions = _positions(table)
    repeated = np.diff(positions, prepend=positions[0] - 1) == 0
    yield table.filter(pyarrow.array(~repeated)) if repeated.any() else table


def with_copies(table: pyarrow.Table, copies: Mapping[str, Mapping[str, str]]) -> pyarrow.Table:
    """The table without positions, and with the names of copies: column -> path of the image -> name of its copy."""
    table = table.drop_columns([POSITION])
    for column, names in copies.items():
        places = compute.index_in(table["path"], pyarrow.array(list(names), pyarrow.string()))
        found = pyarrow.array(list(names.values()), pyarrow.string()).take(places.combine_chunks())
        table = table.set_column(table.column_names.index(column), column, found)
    return table


def write_tables(path: Path, tables: Iterable[pyarrow.Table]) -> None:
    """Write tables into one Parquet file.

    Raises:
        OSError: it cannot be written.
    """
    remaining = iter(tables)
    first = next(remaining)
    with parquet.ParquetWriter(path, first.schema) as writer:
        for table in chain((first,), remaining):
            writer.write_table(table)


def rewrite(parts: Iterable[Part], folder: Location) -> list[Part]:
    """Copy rows to a folder, each position once; gives the new files.

    Raises:
        OSError: a file cannot be written.
    """
    remove_folder(folder)
    make_folder(folder)
    for number, table in enumerate(merge(parts)):
        write_table(table, folder / f"{number:012}.parquet")
    return find_parts(folder)
