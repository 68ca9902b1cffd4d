"""The files in an output folder."""

from pathlib import Path
from typing import Final

FORMATS: Final = ("csv", "jsonl", "parquet")
SUMMARY: Final = "summary.json"
REPORT: Final = "report.html"


def predictions_path(folder: Path, file_format: str) -> Path:
    """The results file, in one of `FORMATS`."""
    return folder / f"predictions.{file_format}"


def holds_results(folder: Path) -> bool:
    """Whether a run wrote its results into this folder."""
    return (folder / SUMMARY).is_file() and any(predictions_path(folder, name).is_file() for name in FORMATS)
