"""The results of the model before, kept when another one answers, so that its report can say what has changed."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

from classify_client.output_folder import FORMATS, predictions_path
from classify_client.results.formats import read_rows, write_rows
from classify_client.results.reader import Item, items_of
from classify_serving.contract.model import ModelMetadata

_PREVIOUS: Final = ".previous.jsonl"


def keep_previous(folder: Path, metadata: ModelMetadata) -> None:
    """Put results of another model than this one aside; to be called before a run begins to replace them.

    Results that this model gave in part are those of a run that is gone on with: what is aside stays.

    Raises:
        OutputError: what is there was not written by us.
        OSError: it cannot be written.
    """
    model = (metadata.model_name, str(metadata.model_version), metadata.created)
    found = False
    for row in _rows(folder):
        if (row.model, row.model_version, row.model_created) == model:
            return
        found |= bool(row.predicted)
    if found:
        write_rows(folder / _PREVIOUS, _rows(folder))


def _rows(folder: Path) -> Iterator[Any]:
    return chain.from_iterable(read_rows(predictions_path(folder, name)) for name in FORMATS)


def read_previous(folder: Path, summary: Mapping[str, Any]) -> Iterator[Item]:
    """What the model before said; nothing if there was none."""
    return items_of(read_rows(folder / _PREVIOUS), summary)
