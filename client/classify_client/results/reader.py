"""The results of a run, read back once, whatever the format of their file."""

import os
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from classify_client.errors import InputError
from classify_client.output_folder import SUMMARY, predictions_path
from classify_client.results.calibration import Reliability
from classify_client.results.formats import read_rows
from classify_client.results.rows import Row
from classify_serving.exchange.misses import MISS

UNCERTAIN_BELOW: Final = 0.6
"""Answers with a lower probability are uncertain."""
MAX_UNCERTAIN: Final = 36
MAX_UNREADABLE: Final = 300


@dataclass(frozen=True)
class Item:
    """A row of the results, and where its image can be found now.

    Attributes:
        row: the row.
        file: the original, as far as the run's arguments tell; it may have been deleted since.
        copy: its copy in `miss/`; None if there is none.
        position: number of the row in the results, from 0.
    """

    row: Row
    file: Path
    copy: Path | None = None
    position: int = 0

    @property
    def candidate_paths(self) -> tuple[Path, ...]:
        """Where to look for the image: first the copy, which has the content that was classified."""
        return (self.copy, self.file) if self.copy else (self.file,)


@dataclass
class Results:
    """The part of a run's results that the report shows: memory grows with the misses, not with the images.

    Attributes:
        folder: the output folder.
        summary: the content of `summary.json`.
        misses: the images with a wrong prediction, in their order.
        uncertain: the `MAX_UNCERTAIN` least certain of the other answers below `UNCERTAIN_BELOW`, least certain first.
        uncertain_count: number of all of those.
        unreadable: the first `MAX_UNREADABLE` images that failed.
        reliability: how often answers of similar probability are right.
        labelled: for each true class, the number of its images and the sum of their probabilities for this class.
        predictions: how often each class was predicted.
    """

    folder: Path
    summary: dict[str, Any]
    misses: list[Item] = field(default_factory=list)
    uncertain: list[Item] = field(default_factory=list)
    uncertain_count: int = 0
    unreadable: list[Item] = field(default_factory=list)
    reliability: Reliability = field(default_factory=Reliability)
    labelled: dict[str, tuple[int, float]] = field(default_factory=dict)
    predictions: Counter[str] = field(default_factory=Counter)

    def add(self, item: Item) -> None:
        """Add one image."""
        row = item.row
        if not row.is_answered:
            if len(self.unreadable) < MAX_UNREADABLE:
                self.unreadable.append(item)
            return
        self.predictions[row.predicted] += 1
        if row.is_labelled:
            self.reliability.add(row.probability, not row.is_miss)
            count, total = self.labelled.get(row.true_class, (0, 0.0))
            self.labelled[row.true_class] = count + 1, total + row.probability_of(row.true_class)
        if row.is_miss:
            self.misses.append(item)
        elif row.probability < UNCERTAIN_BELOW:
            self.uncertain_count += 1
            insort(self.uncertain, item, key=_certainty)
            del self.uncertain[MAX_UNCERTAIN:]

    def merge(self, other: "Results") -> None:
        """Add the results of other images; lists that are limited stay so."""
        self.misses += other.misses
        self.uncertain = sorted((*self.uncertain, *other.uncertain), key=_certainty)[:MAX_UNCERTAIN]
        self.uncertain_count += other.uncertain_count
        self.unreadable = (self.unreadable + other.unreadable)[:MAX_UNREADABLE]
        self.reliability.merge(other.reliability)
        for name, (count, total) in other.labelled.items():
            before = self.labelled.get(name, (0, 0.0))
            self.labelled[name] = before[0] + count, before[1] + total
        self.predictions += other.predictions


def _certainty(item: Item) -> tuple[float, str]:
    return item.row.probability, item.row.path


def read_results(folder: Path) -> Results:
    """Read the results in an output folder.

    Raises:
        InputError: there are none.
        OutputError: they were written by another program.
    """
    results = Results(folder, read_summary(folder))
    for item in read_items(folder, results.summary):
        results.add(item)
    return results


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of a run's `summary.json`.

    Raises:
        InputError: there is none.
    """
    try:
        return msgspec.json.decode((folder / SUMMARY).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"no results in {folder}: give the output folder of a run of classify-client") from error


def result_rows(folder: Path, summary: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a run, in their order, whatever their format.

    Args:
        folder: the output folder.
        summary: the content of its `summary.json`.

    Raises:
        OutputError: they were written by another program.
    """
    return read_rows(predictions_path(folder, summary["arguments"]["format"]))


def read_items(folder: Path, summary: Mapping[str, Any]) -> Iterator[Item]:
    """The rows of a run with the places of their images; arguments and errors as for `result_rows`."""
    root = input_root(summary["arguments"]["inputs"])
    for position, row in enumerate(result_rows(folder, summary)):
        yield Item(row, root / row.path, folder / MISS / row.miss if row.miss else None, position)


def input_root(inputs: Sequence[str]) -> Path:
    """The folder that the paths in results are relative to."""
    if len(inputs) == 1 and os.path.lexists(inputs[0]):
        path = Path(inputs[0])
        return path if path.is_dir() else path.parent
    return Path()
