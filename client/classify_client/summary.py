"""What a run came to: `summary.json`, and the lines on the screen."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from classify_client.outputs import PREDICTIONS, SUMMARY, replacing
from classify_client.pipeline import Times
from classify_client.rows import OK, Row
from classify_serving.contract import ModelMetadata
from classify_serving.misses import MISS


@dataclass
class Tally:
    """Counts over the rows of a run, taken one by one."""

    answered: int = 0
    failed: int = 0
    reused: int = 0
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)

    def add(self, row: Row, reused: bool = False) -> None:
        """Count one row."""
        self.reused += reused
        if row.status != OK:
            self.failed += 1
            return
        self.answered += 1
        self.versions.add(row.model_version)
        if row.true_class:
            self.pairs[row.true_class, row.predicted] += 1

    @property
    def images(self) -> int:
        """All files, answered or not."""
        return self.answered + self.failed

    @property
    def labelled(self) -> int:
        """Answered files whose true class is known."""
        return self.pairs.total()

    @property
    def correct(self) -> int:
        """Of those, the ones the model got right."""
        return sum(count for (true, predicted), count in self.pairs.items() if true == predicted)

    @property
    def accuracy(self) -> float | None:
        """Correct / labelled, in 0-1; None without labels."""
        return self.correct / self.labelled if self.labelled else None


def confusion_matrix(pairs: Mapping[tuple[str, str], int], class_names: Iterable[str]) -> NDArray[np.int64]:
    """int64 [C,C]: row the true class, column the predicted one."""
    index = {name: position for position, name in enumerate(class_names)}
    matrix = np.zeros((len(index), len(index)), np.int64)
    for (true, predicted), count in pairs.items():
        matrix[index[true], index[predicted]] += count
    return matrix


def class_scores(matrix: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Precision, recall and F1 of each class, float64 [C] in 0-1; 0 where one is undefined, as in scikit-learn.

    From the counts alone, because scikit-learn's install is larger than the whole client; a test compares.
    """
    hits, true, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    quotients = {"precision": (hits, predicted), "recall": (hits, true), "f1": (2 * hits, true + predicted)}
    return {
        name: np.divide(part, whole, out=np.zeros(len(matrix)), where=whole > 0)
        for name, (part, whole) in quotients.items()
    }


def summarise(
    tally: Tally, metadata: ModelMetadata, times: Times, seconds: float, arguments: Mapping[str, Any], complete: bool
) -> dict[str, Any]:
    """The content of `summary.json`; `seconds` is the duration of the whole run."""
    # A version that appeared during the run may know classes that its metadata did not name.
    names = sorted({*metadata.class_names, *(name for pair in tally.pairs for name in pair)})
    matrix = confusion_matrix(tally.pairs, names)
    scores = class_scores(matrix)
    sent = tally.images - tally.reused
    return {
        "complete": complete,
        "images": tally.images,
        "answered": tally.answered,
        "failed": tally.failed,
        "reused": tally.reused,
        "labelled": tally.labelled,
        "correct": tally.correct,
        "misses": tally.labelled - tally.correct,
        "accuracy": tally.accuracy,
        "classes": {
            name: {"support": int(matrix[row].sum())} | {score: float(values[row]) for score, values in scores.items()}
            for row, name in enumerate(names)
        },
        "confusion": {"classes": names, "matrix": matrix.tolist()},
        "seconds": seconds,
        "images_per_second": sent / seconds if sent else None,
        "waited_seconds": {"decode": times.decode, "server": times.server, "write": times.write},
        "model": {
            "name": metadata.model_name,
            "versions": sorted(tally.versions),
            "created": metadata.created,
            "merges": dict(metadata.merges),
        },
        "arguments": dict(arguments),
    }


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json` whole or not at all."""
    with replacing(folder / SUMMARY) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")


def summary_lines(summary: Mapping[str, Any], output: Path) -> Iterator[tuple[str, str]]:
    """What a person wants to know first: (what, how much)."""
    yield "Images", _images(summary)
    if summary["accuracy"] is not None:
        right = f"({summary['correct']} of {summary['labelled']} labelled images right)"
        yield "Accuracy", f"{summary['accuracy']:.1%}  {right}"
    elif summary["arguments"]["labels"]:
        yield "Accuracy", "unknown: no image is in a folder named like one of the model's classes"
    if summary["images_per_second"] is not None:
        waited = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in summary["waited_seconds"].items())
        yield "Speed", f"{summary['images_per_second']:.0f} images/s  (waited for: {waited})"
    model = summary["model"]
    yield "Model", f"{model['name']} version {', '.join(model['versions']) or '-'}"
    yield "Predictions", str(output / PREDICTIONS)
    if summary["misses"]:
        yield "Misses", f"{summary['misses']} in {output / MISS}{os.sep}"
        yield "Mistaken", _confusions(summary)


def _images(summary: Mapping[str, Any]) -> str:
    parts = [f"{summary['failed']} failed"] if summary["failed"] else []
    if summary["reused"]:
        parts.append(f"{summary['reused']} answered before, not sent again")
    return f"{summary['images']}" + (f"  ({', '.join(parts)})" if parts else "")


def _confusions(summary: Mapping[str, Any], most: int = 3) -> str:
    names, matrix = summary["confusion"]["classes"], np.array(summary["confusion"]["matrix"])
    np.fill_diagonal(matrix, 0)
    worst = [divmod(int(index), len(names)) for index in np.argsort(-matrix, axis=None, kind="stable")[:most]]
    return ", ".join(
        f"{names[true]} for {names[predicted]} ({matrix[true, predicted]})"
        for true, predicted in worst
        if matrix[true, predicted]
    )
