"""What an output folder holds, and how a file appears in it: whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FORMATS: Final = ("csv", "jsonl", "parquet")
SUMMARY: Final = "summary.json"
REPORT: Final = "report.html"


def predictions_path(folder: Path, file_format: str) -> Path:
    """Where the rows are, in one of `FORMATS`."""
    return folder / f"predictions.{file_format}"


def holds_results(folder: Path) -> bool:
    """Whether a run wrote its results into this folder."""
    return (folder / SUMMARY).is_file() and any(predictions_path(folder, name).is_file() for name in FORMATS)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to that becomes `path` when the block ends; until then what was there stays."""
    temporary = path.with_name(f".{path.name}.tmp")
    yield temporary
    os.replace(temporary, path)
