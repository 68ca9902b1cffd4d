"""Read the known columns of a CSV file, whatever other columns a later release has added."""

import csv
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path


class ColumnsError(Exception):
    """A file is not a CSV file with the wanted columns; the message says why, but does not name the file."""


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of some columns, by their names in the first line, in the given order.

    Args:
        path: a file in UTF-8.
        columns: at least two.

    Raises:
        ColumnsError: the file is not UTF-8 or CSV, a column is missing, or a row is shorter than the first line.
        OSError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            if missing := [name for name in columns if name not in header]:
                raise ColumnsError(f"the column {missing[0]} is missing")
            pick = itemgetter(*map(header.index, columns))
            yield from map(pick, rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ColumnsError(str(error)) from error
    except IndexError:
        raise ColumnsError(f"line {rows.line_num} is too short") from None
