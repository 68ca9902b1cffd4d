"""The file formats of results: CSV, JSON Lines and Parquet, read and written a few rows at a time."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar

import msgspec

from classify_client.errors import OutputError
from classify_client.results.rows import Row, check_columns, column_types, from_record, to_values
from classify_serving.contract.model import TOP_K
from classify_serving.exchange.csv_cells import escape_formula, unescape_formula
from classify_serving.files import replacing

if TYPE_CHECKING:
    import pyarrow

_TYPES: Final = column_types()
_ROW_GROUP: Final = 10_000
_Line = TypeVar("_Line")


def check_format(file_format: str) -> None:
    """Check that the package for a format is installed.

    Raises:
        OutputError: it is not.
    """
    if file_format == "parquet" and find_spec("pyarrow") is None:
        raise OutputError("--format parquet needs pyarrow: pip install pyarrow")


def read_rows(path: Path) -> Iterator[Row]:
    """Read a results file in the format of its suffix; a missing file has no rows.

    A last row that is incomplete because the run was killed is skipped.

    Raises:
        OutputError: it is not a results file, or pyarrow is not installed.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        yield from readers[path.suffix](path)
    except (ValueError, TypeError, csv.Error) as error:
        raise OutputError(
            f"{path} was not written by this version of classify-client: choose another --output, or move the file"
        ) from error


def write_rows(path: Path, rows: Iterable[Row], top_k: int = TOP_K) -> None:
    """Write a results file in the format of its suffix, whole or not at all."""
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(temporary, rows, top_k)
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                csv.writer(file).writerow(column_types(top_k))
            append_rows(file, path.suffix, rows, top_k)


def append_rows(file: TextIO, suffix: str, rows: Iterable[Row], top_k: int) -> None:
    """Add rows to an open `.csv` or `.jsonl` file that `write_rows` began."""
    if suffix == ".csv":
        csv.writer(file).writerows([_cell(value) for value in to_values(row, top_k)] for row in rows)
    else:
        records = _records(rows, top_k)
        file.writelines(msgspec.json.encode(record).decode() + "\n" for record in records)


def _records(rows: Iterable[Row], top_k: int) -> Iterator[dict[str, Any]]:
    columns = tuple(column_types(top_k))
    return (dict(zip(columns, to_values(row, top_k), strict=True)) for row in rows)


def _cell(value: Any) -> str:
    """A value as text in CSV."""
    if isinstance(value, str):
        return escape_formula(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


_PARSERS: Final[Mapping[type, Callable[[str], Any]]] = {
    str: unescape_formula,
    int: int,
    float: lambda cell: float(unescape_formula(cell)),
    bool: lambda cell: cell == "true",
}


def _read_csv(path: Path) -> Iterator[Row]:
    # A label can be as long as a server makes it; the module's own limit is 128 KiB.
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        columns = next(lines, [])
        check_columns(columns)
        parsers = [_PARSERS[_TYPES.get(name, str)] for name in columns]
        for cells in _complete(lines, path):
            if len(cells) == len(columns):
                row = zip(columns, parsers, cells, strict=True)
                yield from_record({name: parse(cell) if cell else None for name, parse, cell in row})


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for line in _complete(file, path):
            yield from_record(msgspec.json.decode(line, type=dict[str, Any]))


def _complete(lines: Iterable[_Line], path: Path) -> Iterator[_Line]:
    """All lines, without a last one that has no line end."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return iter(lines)
    return (line for line, _ in pairwise(lines))


def _read_parquet(path: Path) -> Iterator[Row]:
    check_format("parquet")
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        for group in file.iter_batches(_ROW_GROUP):
            yield from map(from_record, group.to_pylist())


def _write_parquet(path: Path, rows: Iterable[Row], top_k: int) -> None:
    from pyarrow.parquet import ParquetWriter

    remaining = iter(rows)
    with ParquetWriter(path, arrow_table((), top_k).schema) as writer:
        while group := list(islice(remaining, _ROW_GROUP)):
            writer.write_table(arrow_table(group, top_k))


def arrow_table(rows: Iterable[Row], top_k: int) -> "pyarrow.Table":
    """Rows as a table of Arrow, with the columns of `column_types`."""
    import pyarrow

    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in column_types(top_k).items()])
    return pyarrow.Table.from_pylist(list(_records(rows, top_k)), schema)
