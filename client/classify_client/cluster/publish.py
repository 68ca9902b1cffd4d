"""The results of a run on a cluster as those of any run: one file of predictions, and copies of the misses."""

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import pyarrow

from classify_client.cluster.storage.manifest import find_images
from classify_client.cluster.storage.parts import Part, merge, rows_of, with_copies, write_tables
from classify_client.cluster.storage.work_folder import WorkFolder
from classify_client.cluster.tally import Tally
from classify_client.config import OutputOptions
from classify_client.mistakes.compare import Comparator, Comparison
from classify_client.output_folder import FORMATS, predictions_path
from classify_client.results.copies import ImageCopies
from classify_client.results.formats import read_rows, write_rows
from classify_client.results.previous import keep_previous, read_previous
from classify_client.results.reader import Item
from classify_client.results.rows import Row
from classify_serving.contract.model import ModelMetadata
from classify_serving.exchange.misses import MISS, REVIEW
from classify_serving.files import replacing

_MOST_COMPARED: Final = 1_000_000
"""Rows of the previous model, which are held in memory, about 1 GB."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """What changed beside earlier results.

    Attributes:
        outdated: paths of the copies of earlier runs that were removed.
        comparison: with the previous model.
    """

    outdated: Collection[str]
    comparison: Comparison


def publish(
    output: OutputOptions, metadata: ModelMetadata, work: WorkFolder, parts: Iterable[Part], tally: Tally
) -> Published:
    """Copy the misses, and write the predictions in their order; the tally gets the names of the copies.

    The results of another model are kept for a comparison, as by every run.

    Raises:
        OutputError: earlier results cannot be read.
        OSError: a file cannot be written.
    """
    keep_previous(output.output, metadata)
    copies = ImageCopies(output.output, output.link, output.miss_by_pair, output.review_below)
    results, chosen = tally.results, {MISS: tally.results.misses, REVIEW: tally.to_review}
    rows = {item.position: _without_copies(item.row) for items in chosen.values() for item in items}
    sources = find_images((work.manifest, work.kept_manifest), sorted(rows))
    wanted = {name: {item.position for item in items} for name, items in chosen.items()}
    earlier = _earlier_copies(output.output) | work.made_copies()
    with work.noting_copies() as note:
        for at, source in sources.items():
            rows[at] = copies.add(rows[at], source, [name for name, positions in wanted.items() if at in positions])
            note(rows[at].copies)
    results.misses = [_with_copy(item, rows[item.position], output.output) for item in results.misses]
    current = {name for row in rows.values() for name in row.copies}
    outdated = earlier - current
    for name in outdated:
        copies.remove(name)
    comparator = _comparator(output.output)
    _write(output, parts, rows.values(), comparator)
    return Published(outdated, comparator.result() if comparator else Comparison())


def _comparator(folder: Path) -> Comparator | None:
    """To compare with the previous model; None if there was none, or it has answered too many images."""
    rows = list(islice((row for row in read_previous(folder) if row.is_labelled), _MOST_COMPARED + 1))
    if len(rows) > _MOST_COMPARED:
        log.warning(
            "Not compared with the previous model, which has answered more than %d labelled images.", _MOST_COMPARED
        )
        return None
    return Comparator(rows) if rows else None


def _compared(tables: Iterable[pyarrow.Table], comparator: Comparator | None) -> Iterator[pyarrow.Table]:
    for table in tables:
        if comparator:
            for row in rows_of(table):
                comparator.add(row)
        yield table


def _without_copies(row: Row) -> Row:
    return msgspec.structs.replace(row, miss="", review="")


def _with_copy(item: Item, row: Row, folder: Path) -> Item:
    return replace(item, row=row, copy=folder / MISS / row.miss if row.miss else None)


def _earlier_copies(folder: Path) -> set[str]:
    return {name for kind in FORMATS for row in read_rows(predictions_path(folder, kind)) for name in row.copies}


def _write(
    output: OutputOptions, parts: Iterable[Part], copied: Collection[Row], comparator: Comparator | None
) -> None:
    path = predictions_path(output.output, output.file_format)
    # The columns have the names of the folders.
    names = {column: {row.path: name for row in copied if (name := getattr(row, column))} for column in (MISS, REVIEW)}
    tables = (with_copies(table, names) for table in _compared(merge(parts), comparator))
    if output.file_format == "parquet":
        # Without a Python object for each row.
        with replacing(path) as temporary:
            write_tables(temporary, tables)
    else:
        write_rows(path, (row for table in tables for row in rows_of(table)), output.top_k)
    for kind in FORMATS:
        if (other := predictions_path(output.output, kind)) != path:
            other.unlink(missing_ok=True)
