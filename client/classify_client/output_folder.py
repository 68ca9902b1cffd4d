"""The files in an output folder."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

FORMATS: Final = ("csv", "jsonl", "parquet")
SUMMARY: Final = "summary.json"
REPORT: Final = "report.html"


def predictions_name(file_format: str) -> str:
    """Name of the results file, in one of `FORMATS`."""
    return f"predictions.{file_format}"


def predictions_path(folder: Path, file_format: str) -> Path:
    """The results file, in one of `FORMATS`."""
    return folder / predictions_name(file_format)


def holds_results(folder: Path) -> bool:
    """Whether a run wrote its results into this folder."""
    return (folder / SUMMARY).is_file() and any(predictions_path(folder, name).is_file() for name in FORMATS)


def is_results(names: Collection[str]) -> bool:
    """Whether these are the names of files in a folder into which a run wrote its results."""
    return SUMMARY in names and any(predictions_name(name) in names for name in FORMATS)
