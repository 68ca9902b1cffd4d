"""The files in an output folder."""

from collections.abc import Callable
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
    return are_results(lambda name: (folder / name).is_file())


def are_results(has: Callable[[str], bool]) -> bool:
    """Whether a folder has the files that every run leaves; `has` says whether it has a file of a name."""
    return has(SUMMARY) and any(has(predictions_name(name)) for name in FORMATS)
