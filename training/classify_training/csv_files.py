"""CSV files, written whole or not at all."""

import csv
from collections.abc import Iterable
from pathlib import Path

from classify_serving.files import replacing


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write rows, the first of which holds the column names, as UTF-8.

    A file name that is not UTF-8 is written with backslash escapes.

    Raises:
        OSError: the file cannot be written.
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        csv.writer(file).writerows(rows)
