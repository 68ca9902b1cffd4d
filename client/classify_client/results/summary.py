"""`summary.json`: counts, accuracy, scores of each class and speed of a run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from classify_client.inference.pipeline import Times
from classify_client.output_folder import SUMMARY
from classify_client.results.metrics import class_scores, confusion_matrix, wilson_interval
from classify_client.results.rows import Row
from classify_serving.contract.model import ModelMetadata
from classify_serving.contract.text import printable
from classify_serving.files import replace_file

_MAX_UNKNOWN: Final = 100
_OTHER_UNKNOWN: Final = "(more labels)"


@dataclass
class RunCounts:
    """Counts over the rows of a run, added one by one, and the files in its folders that are not images."""

    answered: int = 0
    failed: int = 0
    reused: int = 0
    skipped: int = 0
    to_review: int = 0
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)
    precisions: set[str] = field(default_factory=set)

    def add(self, row: Row, precision: str, reused: bool = False) -> None:
        """Count one row.

        Args:
            row: of an image.
            precision: of the model that answered.
            reused: whether the answer is from an earlier run.
        """
        self.reused += reused
        if not row.is_answered:
            self.failed += 1
            return
        self.answered += 1
        self.to_review += bool(row.review)
        self.versions.add("" if row.model_version is None else str(row.model_version))
        self.precisions.add(precision)
        if row.is_labelled:
            self.pairs[row.true_class, row.predicted] += 1

    def merge(self, other: "RunCounts") -> None:
        """Add the counts over other rows."""
        self.answered += other.answered
        self.failed += other.failed
        self.reused += other.reused
        self.skipped += other.skipped
        self.to_review += other.to_review
        self.pairs += other.pairs
        self.versions |= other.versions
        self.precisions |= other.precisions

    def skip(self) -> None:
        """Count a file whose name is not that of an image."""
        self.skipped += 1

    @property
    def images(self) -> int:
        """All images, answered or not."""
        return self.answered + self.failed

    @property
    def labelled(self) -> int:
        """Answered images whose true class is known."""
        return self.pairs.total()

    @property
    def correct(self) -> int:
        """Labelled images whose prediction is right."""
        return sum(count for (true, predicted), count in self.pairs.items() if true == predicted)

    @property
    def accuracy(self) -> float | None:
        """Correct / labelled, in 0-1; None without labels."""
        return self.correct / self.labelled if self.labelled else None

    @property
    def accuracy_interval(self) -> tuple[float, float] | None:
        """Its 95% interval."""
        return wilson_interval(self.correct, self.labelled) if self.labelled else None


def _known_pairs(
    pairs: Mapping[tuple[str, str], int], class_names: Sequence[str]
) -> tuple[list[str], Counter[tuple[str, str]]]:
    """All class names, and the counts of their pairs.

    A version that appears during the run may have classes that its metadata did not name. If a server answers with more
    than a hundred unknown names, the others are counted under one.
    """
    known = {*class_names, *(true for true, _ in pairs)}
    unknown = list(dict.fromkeys(predicted for _, predicted in pairs if predicted not in known))
    names = {name: name for name in (*known, *unknown[:_MAX_UNKNOWN])}
    names |= dict.fromkeys(unknown[_MAX_UNKNOWN:], _OTHER_UNKNOWN)
    merged: Counter[tuple[str, str]] = Counter()
    for (true, predicted), count in pairs.items():
        merged[true, names[predicted]] += count
    return sorted(set(names.values())), merged


def summarise(
    counts: RunCounts,
    metadata: ModelMetadata,
    times: Times,
    seconds: float,
    arguments: Mapping[str, Any],
    complete: bool,
) -> dict[str, Any]:
    """The content of `summary.json`.

    Args:
        counts: of the run.
        metadata: of the model.
        times: that the run waited for its stages.
        seconds: duration of the run.
        arguments: the options of the run.
        complete: whether the run has classified all inputs.
    """
    names, pairs = _known_pairs(counts.pairs, metadata.class_names)
    matrix = confusion_matrix(pairs, names)
    scores = class_scores(matrix)
    sent = counts.images - counts.reused
    return {
        "complete": complete,
        "images": counts.images,
        "answered": counts.answered,
        "failed": counts.failed,
        "reused": counts.reused,
        "skipped": counts.skipped,
        "labelled": counts.labelled,
        "correct": counts.correct,
        "misses": counts.labelled - counts.correct,
        "accuracy": counts.accuracy,
        "accuracy_interval": counts.accuracy_interval,
        "to_review": counts.to_review,
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
            "versions": sorted(counts.versions),
            "created": metadata.created,
            "precision": ", ".join(sorted(counts.precisions)) or metadata.precision,
            "merges": dict(metadata.merges),
        },
        "arguments": dict(arguments),
    }


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json`, whole or not at all."""
    replace_file(folder / SUMMARY, summary_json(summary))


def summary_json(summary: Mapping[str, Any]) -> bytes:
    """The content of `summary.json` as it is written; bytes of names that are not UTF-8 become `\\xff` and so on."""
    try:
        content = msgspec.json.encode(summary)
    except UnicodeEncodeError:
        content = msgspec.json.encode(_printable(summary))
    return msgspec.json.format(content, indent=2) + b"\n"


def _printable(value: Any) -> Any:
    """A value with all texts in it as `printable` makes them."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(each) for key, each in value.items()}
    return [_printable(each) for each in value] if isinstance(value, list | tuple) else value
