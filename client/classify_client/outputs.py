"""What an output folder holds, and how a file appears in it: whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PREDICTIONS: Final = "predictions.csv"
SUMMARY: Final = "summary.json"


def holds_results(folder: Path) -> bool:
    """Whether a run wrote its results into this folder."""
    return all((folder / name).is_file() for name in (PREDICTIONS, SUMMARY))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to that becomes `path` when the block ends; until then what was there stays."""
    temporary = path.with_name(f".{path.name}.tmp")
    yield temporary
    os.replace(temporary, path)
