"""The results of the previous model, kept when another model answers, so that the report can compare the two."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from classify_client.output_folder import FORMATS, predictions_path
from classify_client.results.formats import read_rows, write_rows
from classify_client.results.rows import Row
from classify_serving.contract.model import ModelMetadata

PREVIOUS: Final = ".previous.jsonl"


def keep_previous(folder: Path, metadata: ModelMetadata) -> None:
    """Save the results of another model than this one; to be called before a run begins to replace them.

    If some results are of this model already, a run is being continued: what was saved stays.

    Raises:
        OutputError: the results were written by another program.
        OSError: they cannot be written.
    """
    found = False
    for row in _rows(folder):
        if row.is_answered_by(metadata):
            return
        found |= row.is_answered
    if found:
        write_rows(folder / PREVIOUS, _rows(folder))


def _rows(folder: Path) -> Iterator[Row]:
    return chain.from_iterable(read_rows(predictions_path(folder, name)) for name in FORMATS)


def read_previous(folder: Path) -> Iterator[Row]:
    """The results of the previous model; nothing if there was none."""
    return read_rows(folder / PREVIOUS)
