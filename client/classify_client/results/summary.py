"""What a run came to: `summary.json`, and the lines on the screen."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from classify_client.inference.pipeline import Times
from classify_client.output_folder import REPORT, SUMMARY, predictions_path
from classify_client.results.rows import OK, Row
from classify_serving.contract.model import ModelMetadata
from classify_serving.exchange.misses import MISS, REVIEW
from classify_serving.files import replacing

_MOST_NEW: Final = 100
_OTHER_NEW: Final = "(more labels)"


@dataclass
class Tally:
    """Counts over the rows of a run, taken one by one."""

    answered: int = 0
    failed: int = 0
    reused: int = 0
    to_review: int = 0
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)

    def add(self, row: Row, reused: bool = False) -> None:
        """Count one row."""
        self.reused += reused
        if row.status != OK:
            self.failed += 1
            return
        self.answered += 1
        self.to_review += bool(row.review)
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
    def accuracy_interval(self) -> tuple[float, float] | None:
        """Its 95% interval."""
        return wilson_interval(self.correct, self.labelled) if self.labelled else None

    @property
    def accuracy(self) -> float | None:
        """Correct / labelled, in 0-1; None without labels."""
        return self.correct / self.labelled if self.labelled else None


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95% interval of a proportion, in 0-1 (Wilson, 1927); it holds for few trials and near 1 as well."""
    z = 1.959963984540054
    centre = (successes + z * z / 2) / (trials + z * z)
    reach = z * math.sqrt(successes * (trials - successes) / trials + z * z / 4) / (trials + z * z)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _known_pairs(
    pairs: Mapping[tuple[str, str], int], class_names: Sequence[str]
) -> tuple[list[str], Counter[tuple[str, str]]]:
    """All class names, and the pairs in them.

    A version that appeared during the run may know classes that its metadata did not name. A server that makes
    names up without end gets one class for those above a hundred.
    """
    known = {*class_names, *(true for true, _ in pairs)}
    new = list(dict.fromkeys(predicted for _, predicted in pairs if predicted not in known))
    names = {name: name for name in (*known, *new[:_MOST_NEW])} | dict.fromkeys(new[_MOST_NEW:], _OTHER_NEW)
    merged: Counter[tuple[str, str]] = Counter()
    for (true, predicted), count in pairs.items():
        merged[true, names[predicted]] += count
    return sorted(set(names.values())), merged


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
    names, pairs = _known_pairs(tally.pairs, metadata.class_names)
    matrix = confusion_matrix(pairs, names)
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
        "accuracy_interval": tally.accuracy_interval,
        "to_review": tally.to_review,
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
        temporary.write_bytes(summary_json(summary))


def summary_json(summary: Mapping[str, Any]) -> bytes:
    """The content of `summary.json`."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"


def summary_lines(summary: Mapping[str, Any], output: Path) -> Iterator[tuple[str, str]]:
    """What a person wants to know first: (what, how much)."""
    yield "Images", _images(summary)
    if summary["accuracy"] is not None:
        low, high = summary["accuracy_interval"]
        right = f"({summary['correct']} of {summary['labelled']} labelled images right)"
        yield "Accuracy", f"{summary['accuracy']:.1%}, 95% interval {low:.1%} to {high:.1%}  {right}"
    elif summary["arguments"]["labels"]:
        yield "Accuracy", "unknown: no image is in a folder named like one of the model's classes"
    if summary.get("seen"):
        yield "Seen", seen_line(summary["seen"], summary["unseen"])
    if summary["misses"]:
        yield "Worst", _worst(summary)
        yield "Mistaken", _confusions(summary)
    if summary["images_per_second"] is not None:
        waited = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in summary["waited_seconds"].items())
        speed = f"{summary['images_per_second']:.0f} images/s over {summary['seconds']:.1f} s"
        yield "Speed", f"{speed}  (waited for: {waited})"
        requests = summary["requests"]
        yield (
            "Requests",
            f"{requests['batch_size']} images each, {requests['in_flight']} in flight"
            + ("" if requests["settled"] else "  (not settled yet)"),
        )
    model = summary["model"]
    yield "Model", f"{model['name']} version {', '.join(model['versions']) or '-'}"
    yield "Predictions", str(predictions_path(output, summary["arguments"]["format"]))
    if summary["misses"]:
        yield "Misses", f"{summary['misses']} in {output / MISS}{os.sep}"
    if summary["to_review"]:
        below = summary["arguments"]["review_below"]
        yield "To review", f"{summary['to_review']} of a probability below {below:g} in {output / REVIEW}{os.sep}"
    yield "Report", str(output / REPORT)


def seen_line(seen: Mapping[str, Any], unseen: Mapping[str, Any]) -> str:
    """How the images that the model was trained on compare with the others."""
    parts = [f"{seen['images']} were trained on"]
    for part, name in ((seen, "of them"), (unseen, "of the others")):
        if part["accuracy"] is not None:
            parts.append(f"{part['accuracy']:.1%} {name} right")
    return ", ".join(parts)


def _images(summary: Mapping[str, Any]) -> str:
    parts = [f"{summary['failed']} failed"] if summary["failed"] else []
    if summary["reused"]:
        parts.append(f"{summary['reused']} answered before, not sent again")
    return f"{summary['images']}" + (f"  ({', '.join(parts)})" if parts else "")


def _worst(summary: Mapping[str, Any], most: int = 3) -> str:
    """The classes of lowest recall, with how many images they have."""
    classes = [(name, scores) for name, scores in summary["classes"].items() if scores["support"]]
    worst = sorted(classes, key=lambda item: (item[1]["recall"], -item[1]["support"]))[:most]
    return ", ".join(
        f"{_short(name)} {scores['recall']:.1%} of {scores['support']}"
        for name, scores in worst
        if scores["recall"] < 1
    )


def _confusions(summary: Mapping[str, Any], most: int = 3) -> str:
    names, matrix = summary["confusion"]["classes"], np.array(summary["confusion"]["matrix"])
    np.fill_diagonal(matrix, 0)
    worst = [divmod(int(index), len(names)) for index in np.argsort(-matrix, axis=None, kind="stable")[:most]]
    return ", ".join(
        f"{_short(names[true])} for {_short(names[predicted])} ({matrix[true, predicted]})"
        for true, predicted in worst
        if matrix[true, predicted]
    )


def _short(label: str, most: int = 40) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"
