"""`predictions.csv`: written row by row, so that a killed run can be taken up where it stopped."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from classify_client.errors import OutputError
from classify_client.outputs import PREDICTIONS, replacing
from classify_client.rows import COLUMNS, OK, Row
from classify_client.sources import Source
from classify_serving.contract import ModelMetadata


class Predictions:
    """The results file of a run; a context manager.

    Opening it keeps the rows of an earlier run that the same model answered, for `find`, and drops everything
    else: failures, another model's answers, a row cut short by a kill. New rows are appended as they come. `finish`
    leaves exactly the rows of this run's files, in their order.

    Args:
        folder: the output folder, which exists.
        metadata: of the model that answers now.
        overwrite: keep nothing.
        forget: called with each earlier row before it disappears from the file.

    Raises:
        OutputError: the file is another program's.
        OSError: it cannot be read or written.
    """

    def __init__(self, folder: Path, metadata: ModelMetadata, overwrite: bool, forget: Callable[[Row], None]) -> None:
        self.path = folder / PREDICTIONS
        self._forget = forget
        self._earlier: dict[str, Row] = {}
        model = (metadata.model_name, str(metadata.model_version), metadata.created)
        for row in read_rows(self.path):
            if not overwrite and row.status == OK and (row.model, row.model_version, row.model_created) == model:
                self._earlier[row.path] = row
            else:
                forget(row)
        self._kept: dict[str, Row] = {}
        self._seen: dict[str, None] = {}
        self._in_file = list(self._earlier)
        write_rows(self.path, self._earlier.values())
        self._file = self.path.open("a", encoding="utf-8", newline="")

    def admit(self, source: Source) -> bool:
        """Take note of the next file of this run; false if it has had its turn already."""
        if source.name in self._seen:
            return False
        self._seen[source.name] = None
        return True

    def find(self, source: Source) -> Row | None:
        """The earlier answer for a file, if it has not changed since."""
        row = self._earlier.get(source.name)
        return row if row is not None and (row.size, row.modified) == source.stamp else None

    def keep(self, row: Row) -> None:
        """Take an earlier answer over; its true label may be another one now."""
        self._kept[row.path] = row

    def append(self, rows: Iterable[Row]) -> None:
        """Write new answers; once this returns, a kill does not lose them."""
        writer = csv.writer(self._file)
        for row in rows:
            writer.writerow(cells(row))
            self._in_file.append(row.path)
        self._file.flush()

    def finish(self) -> None:
        """Bring the file into the order of this run, without files that are no longer there.

        Only to be called when the run has seen all of its files.
        """
        self._file.close()
        if list(self._seen) == self._in_file and all(self._earlier[path] == row for path, row in self._kept.items()):
            return
        rows = {row.path: row for row in read_rows(self.path)} | self._kept
        current = [rows[path] for path in self._seen]
        copies = {row.miss for row in current}
        for row in self._earlier.values():
            if row.miss not in copies:
                self._forget(row)
        write_rows(self.path, current)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def cells(row: Row) -> list[str]:
    """The row's values in the order of `COLUMNS`."""
    return [getattr(row, name) for name in COLUMNS]


def read_rows(path: Path) -> Iterator[Row]:
    """Read a results file; a last row that a kill cut short is passed over. No file gives no rows.

    Raises:
        OutputError: the columns are not ours.
    """
    try:
        yield from _parse_rows(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _foreign(path) from error


def _foreign(path: Path) -> OutputError:
    return OutputError(f"{path} was not written by this version of classify-client: give another --output, or move it")


def _parse_rows(path: Path) -> Iterator[Row]:
    if not path.exists() or not path.stat().st_size:
        return
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != COLUMNS:
            raise _foreign(path)
        yield from (
            Row(**dict(zip(COLUMNS, values, strict=True)))
            for values in (reader if _ends_with_newline(path) else _all_but_last(reader))
            if len(values) == len(COLUMNS)
        )


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _all_but_last(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    return (row for row, _ in pairwise(rows))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a results file whole; until then the one that was there stays."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(cells(row) for row in rows)
