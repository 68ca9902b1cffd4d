"""The rows that the processes of a cluster write: Parquet files in one folder, each with the rows of some images."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import compute, parquet

from classify_client.cluster.manifest import POSITION, write_table
from classify_client.results.formats import arrow_table
from classify_client.results.rows import Row, from_record

_ROWS_PER_PART: Final = 1 << 13


def to_part(rows: Sequence[Row], positions: Sequence[int], top_k: int) -> pyarrow.Table:
    """Rows as they are written, with the positions of their images in the run."""
    return arrow_table(rows, top_k).append_column(POSITION, pyarrow.array(positions, pyarrow.int64()))


class PartWriter:
    """Writes rows into new files of a folder; only those of one file are in memory.

    Args:
        folder: exists.
        name: with which the names of the files begin.
        top_k: number of classes in a row, 1-5.

    Raises (all methods):
        OSError: a file cannot be written.
    """

    def __init__(self, folder: Path, name: str, top_k: int) -> None:
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


def find_parts(folder: Path) -> dict[Path, int]:
    """The files of a folder, and how many rows each has; without those that a killed process left half-written."""
    parts = {}
    for path in sorted(folder.glob("*.parquet")):
        with suppress(pyarrow.ArrowInvalid, OSError):
            parts[path] = parquet.read_metadata(path).num_rows
    return parts


def count_rows(parts: Mapping[Path, int]) -> int:
    """How many rows the files of `find_parts` have, images that were answered twice included."""
    return sum(parts.values())


def rows_of(table: pyarrow.Table) -> Iterator[Row]:
    """A table as rows."""
    return map(from_record, table.to_pylist())


def merge(parts: Iterable[Path]) -> Iterator[pyarrow.Table]:
    """All rows as tables in the order of their positions, each position once.

    A merge of sorted runs: in memory are only the files whose ranges of positions overlap.
    """
    heap: list[tuple[int, int, Path | pyarrow.Table]] = [
        (_first_position(path), number, path) for number, path in enumerate(parts)
    ]
    heapq.heapify(heap)
    done = -1
    while heap:
        _, number, part = heapq.heappop(heap)
        table = parquet.read_table(part).sort_by(POSITION) if isinstance(part, Path) else part
        positions = _positions(table)
        start = int(np.searchsorted(positions, done, "right"))
        end = int(np.searchsorted(positions, heap[0][0], "right")) if heap else len(positions)
        if end > start:
            done = int(positions[end - 1])
            yield from _without_repetition(table.slice(start, end - start))
        if end < len(positions):
            heapq.heappush(heap, (int(positions[end]), number, table.slice(end)))


def _first_position(path: Path) -> int:
    """The lowest position, from the statistics that Parquet stores."""
    metadata = parquet.read_metadata(path)
    column = metadata.schema.names.index(POSITION)
    groups = [metadata.row_group(number).column(column).statistics for number in range(metadata.num_row_groups)]
    return min((int(group.min) for group in groups if group and group.has_min_max), default=0)


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


def rewrite(parts: Iterable[Path], folder: Path) -> dict[Path, int]:
    """Copy rows to a new folder, each position once; gives the files as `find_parts` does.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir()
    for number, table in enumerate(merge(parts)):
        write_table(table, folder / f"{number:012}.parquet")
    return find_parts(folder)
