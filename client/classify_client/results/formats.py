"""The formats of results: rows to a file and back, a few at a time."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final, TextIO, TypeVar

import msgspec

from classify_client.errors import OutputError
from classify_client.results.rows import REALS, WHOLES, Row, columns, from_record, to_record
from classify_serving.contract.model import TOP_K
from classify_serving.exchange.csv_cells import escape_formula, unescape_formula
from classify_serving.files import replacing

_CSV_COLUMNS: Final = frozenset(columns(top_k) for top_k in range(1, TOP_K + 1))
_ROW_GROUP: Final = 10_000
_Line = TypeVar("_Line")


def check_format(file_format: str) -> None:
    """See that what writes a format is installed.

    Raises:
        OutputError: it is not.
    """
    if file_format == "parquet" and find_spec("pyarrow") is None:
        raise OutputError("--format parquet needs pyarrow: pip install pyarrow")


def read_rows(path: Path) -> Iterator[Row]:
    """Read a results file in the format that its ending says; no file gives no rows.

    A last row that a kill cut short is passed over.

    Raises:
        OutputError: it is not ours, or pyarrow is not installed for it.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    try:
        yield from readers[path.suffix](path)
    except (ValueError, TypeError, csv.Error) as error:
        raise OutputError(
            f"{path} was not written by this version of classify-client: give another --output, or move it"
        ) from error


def write_rows(path: Path, rows: Iterable[Row], top_k: int = TOP_K) -> None:
    """Write a results file whole, in the format that its ending says; until then the one that was there stays."""
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(temporary, rows, columns(top_k))
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                csv.writer(file).writerow(columns(top_k))
            append_rows(file, path.suffix, rows, top_k)


def append_rows(file: TextIO, suffix: str, rows: Iterable[Row], top_k: int) -> None:
    """Add rows to a `.csv` or `.jsonl` file that `write_rows` made."""
    names = columns(top_k)
    if suffix == ".csv":
        csv.writer(file).writerows([escape_formula(getattr(row, name)) for name in names] for row in rows)
    else:
        file.writelines(msgspec.json.encode(to_record(row, names)).decode() + "\n" for row in rows)


def _read_csv(path: Path) -> Iterator[Row]:
    # A label may be as long as a server likes; the module's own limit is 128 KiB.
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        names = tuple(next(lines, ()))
        if names not in _CSV_COLUMNS:
            raise ValueError(f"columns {names}")
        for values in _whole(lines, path):
            if len(values) == len(names):
                yield Row(**dict(zip(names, map(unescape_formula, values), strict=True)))


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for line in _whole(file, path):
            yield from_record(msgspec.json.decode(line, type=dict[str, Any]))


def _whole(lines: Iterable[_Line], path: Path) -> Iterator[_Line]:
    """All lines, without a last one that does not end."""
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


def _write_parquet(path: Path, rows: Iterable[Row], names: Sequence[str]) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    types = {"correct": pyarrow.bool_(), **dict.fromkeys(REALS, pyarrow.float64())}
    types |= dict.fromkeys(WHOLES, pyarrow.int64())
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in names])
    remaining = iter(rows)
    with ParquetWriter(path, schema) as writer:
        while group := [to_record(row, names) for row in islice(remaining, _ROW_GROUP)]:
            writer.write_table(pyarrow.Table.from_pylist(group, schema))
