"""The results file of a run, written row by row, so that a killed run can be continued."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from classify_client.errors import OutputGone
from classify_client.inputs.source import Source
from classify_client.output_folder import FORMATS, predictions_path
from classify_client.results.formats import append_rows, read_rows, write_rows
from classify_client.results.row_index import RowIndex
from classify_client.results.rows import Row
from classify_serving.contract.model import TOP_K, ModelMetadata

_JOURNAL: Final = ".predictions.jsonl"


class Predictions:
    """The results file of a run; a context manager.

    Opening it keeps the rows of an earlier run that the same model answered, in any format, for `find`, and drops all
    others: failures, answers of another model, an incomplete last row. New rows are appended as they come. `finish`
    leaves exactly the rows of this run's images, in their order.

    CSV and JSON Lines files are their own journal. Parquet cannot be appended to: until the run ends, its rows are in a
    hidden JSON Lines file.

    Args:
        folder: the output folder, which exists.
        metadata: of the model that answers now.
        overwrite: keep no earlier rows.
        remove_copy: called with the path in `folder` of each copy of an image that no row names any more.
        file_format: one of `FORMATS`.
        top_k: how many classes a row names.

    Raises:
        OutputError: the file was written by another program.
        OSError: it cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        metadata: ModelMetadata,
        overwrite: bool,
        remove_copy: Callable[[str], None],
        file_format: str = FORMATS[0],
        top_k: int = TOP_K,
    ) -> None:
        self.path = predictions_path(folder, file_format)
        self._journal = folder / _JOURNAL if file_format == "parquet" else self.path
        self._remove_copy, self._top_k = remove_copy, top_k
        self._index = RowIndex()
        # A journal is newer than the file that it was to become.
        files = [*(predictions_path(folder, name) for name in FORMATS), folder / _JOURNAL]
        self._load(files, metadata, overwrite)
        write_rows(self._journal, self._index.by_place(), top_k)
        for path in files:
            if path != self._journal:
                path.unlink(missing_ok=True)
        self._file = self._journal.open("a", encoding="utf-8", newline="")
        # Some network file systems give a file another number each time.
        self._has_stable_numbers = self._is_opened_file()
        self._kept = 0
        self._in_order, self._any_new, self._finished = True, False, False

    def _load(self, files: Iterable[Path], metadata: ModelMetadata, overwrite: bool) -> None:
        self._loaded = 0
        for path in files:
            for row in read_rows(path):
                if not overwrite and row.answers(metadata, self._top_k):
                    self._loaded += 1
                    self._index.load(row)
                    self._index.note_copies(*row.copies, current=False)
                else:
                    for name in row.copies:
                        self._remove_copy(name)

    def admit(self, source: Source) -> bool:
        """Register the next image of this run; false if it has had its turn already."""
        return self._index.admit(source.name)

    def find(self, source: Source) -> Row | None:
        """The earlier answer for an image, if its content has not changed since."""
        # Most runs are the first one: then nothing has to be looked up.
        row, place = (self._index.find(source.name) if self._loaded else None) or (None, 0)
        if row is None or not row.is_about(source.stamp):
            self._any_new = True
            self._in_order &= row is None
            return None
        self._kept += 1
        # New rows go to the end of the file.
        self._in_order &= place == self._kept and not self._any_new
        return row

    def keep(self, row: Row, earlier: Row) -> None:
        """Keep an earlier answer; its true label and its copies may have changed."""
        self._index.note_copies(*row.copies, current=True)
        if row != earlier:
            self._in_order = False
            self._write([row])

    def append(self, rows: Iterable[Row]) -> None:
        """Write new answers; once this returns, a kill does not lose them."""
        self._write(list(rows))

    def _write(self, rows: Sequence[Row]) -> None:
        append_rows(self._file, self._journal.suffix, rows, self._top_k)
        self._file.flush()
        self._check_file()
        self._index.put(rows)
        if copies := [name for row in rows for name in row.copies]:
            self._index.note_copies(*copies, current=True)

    def _check_file(self) -> None:
        """A file that was deleted can still be written to, so that all rows would be lost without an error.

        Raises:
            OutputGone: the results file was deleted or replaced.
        """
        with suppress(OSError):
            self._journal.stat()
            if not self._has_stable_numbers or self._is_opened_file():
                return
        raise OutputGone(f"{self._journal} was deleted or replaced during the run: run again")

    def _is_opened_file(self) -> bool:
        return os.path.samestat(os.fstat(self._file.fileno()), self._journal.stat())

    def finish(self) -> None:
        """Put the rows into the order of this run, without images that are no longer among the inputs.

        To be called only when the run has seen all of its images.
        """
        self._check_file()
        self._file.close()
        for name in self._index.outdated_copies():
            self._remove_copy(name)
        self._in_order &= self._kept == self._loaded
        self._publish(self._index.by_turn())
        self._finished = True

    def _publish(self, rows: Iterable[Row]) -> None:
        if self._journal != self.path or not self._in_order:
            write_rows(self.path, rows, self._top_k)
        if self._journal != self.path:
            self._journal.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._finished and (error is None or isinstance(error, KeyboardInterrupt)):
            self._publish(self._index.by_turn_or_place())
        self._index.close()
