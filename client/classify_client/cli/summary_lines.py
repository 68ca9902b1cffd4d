"""The summary of a run as lines on the screen."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from classify_client.output_folder import REPORT, predictions_name
from classify_serving.exchange.misses import MISS, REVIEW
from classify_serving.exchange.review import REVIEW as REVIEW_FILE

if TYPE_CHECKING:
    from upath import UPath

_LONG_ANALYSIS: Final = 2.0
"""Seconds."""


def summary_lines(
    summary: Mapping[str, Any], output: "Path | UPath", analysis_seconds: float = 0.0
) -> Iterator[tuple[str, str]]:
    """The most important results: (name, value); the analysis after the run is mentioned if it took long."""
    yield "Images", _images(summary)
    if summary["accuracy"] is not None:
        low, high = summary["accuracy_interval"]
        right = f"({summary['correct']} of {summary['labelled']} labelled images right)"
        yield "Accuracy", f"{summary['accuracy']:.1%}, 95% interval {low:.1%} to {high:.1%}  {right}"
    elif summary["arguments"]["labels"]:
        yield "Accuracy", "unknown: no image is in a folder with the name of one of the model's classes"
    if summary.get("seen"):
        yield "Seen", seen_line(summary["seen"], summary["unseen"])
    if summary["misses"]:
        yield "Worst recall", _worst(summary)
        yield "Confused", _confusions(summary)
    if summary["images_per_second"] is not None:
        yield "Speed", _speed(summary)
        if requests := summary.get("requests"):
            yield (
                "Requests",
                f"{requests['batch_size']} images each, {requests['in_flight']} in flight"
                + ("" if requests["settled"] else "  (still searching for the fastest setting)"),
            )
    if analysis_seconds >= _LONG_ANALYSIS:
        yield "Analysis", f"{analysis_seconds:.1f} s for the report, heat maps and embeddings"
    model = summary["model"]
    yield "Model", f"{model['name']} version {', '.join(model['versions']) or '-'} ({model['precision']})"
    yield "Predictions", str(output / predictions_name(summary["arguments"]["format"]))
    if summary["misses"]:
        copied = summary.get("copied_misses", summary["misses"])
        most = "" if copied == summary["misses"] else f", the {copied} most suspicious ones"
        where = f"{most} in {output / MISS}{os.sep}" if copied else ", not copied"
        yield "Misses", f"{summary['misses']}{where}"
    if summary["to_review"]:
        below = summary["arguments"]["review_below"]
        yield "To review", f"{summary['to_review']} with a probability below {below:g} in {output / REVIEW}{os.sep}"
    yield "Report", str(output / REPORT)
    if "output" in summary:
        if summary["misses"]:
            yield "Next", "copy this folder to your machine, and decide: classify-client review FOLDER"
    elif summary["misses"] and (output / REVIEW_FILE).exists():
        yield "Next", f"decide while looking at them: classify-client review {output}"


def _speed(summary: Mapping[str, Any]) -> str:
    speed = f"{summary['images_per_second']:.0f} images/s over {summary['seconds']:.1f} s"
    if cluster := summary.get("cluster"):
        machines = _count(cluster["machines"], "machine", "machines")
        processes = _count(cluster["processes"], "process", "processes")
        return f"{speed}  ({machines}, {processes}, {cluster['threads']} threads each)"
    waited = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in summary["waited_seconds"].items())
    return f"{speed}  (waited for: {waited})"


def seen_line(seen: Mapping[str, Any], unseen: Mapping[str, Any]) -> str:
    """Accuracy on the images that the model was trained on, and on those that it has never seen."""
    parts = [f"{seen['images']} images from training" + _accuracy(", accuracy", seen)]
    if unseen["accuracy"] is not None:
        parts.append("on unseen images" + _accuracy("", unseen))
    return "; ".join(parts)


def _accuracy(name: str, subset: Mapping[str, Any]) -> str:
    return "" if subset["accuracy"] is None else f"{name} {subset['accuracy']:.1%}"


def _images(summary: Mapping[str, Any]) -> str:
    parts = [f"{summary['failed']} failed"] if summary["failed"] else []
    if summary["reused"]:
        parts.append(f"{summary['reused']} answered before, not sent again")
    if summary.get("skipped"):
        parts.append(f"{summary['skipped']} other files skipped")
    return f"{summary['images']}" + (f"  ({', '.join(parts)})" if parts else "")


def _worst(summary: Mapping[str, Any], most: int = 3) -> str:
    """The classes of lowest recall, with how many images they have."""
    classes = [(name, scores) for name, scores in summary["classes"].items() if scores["support"]]
    worst = sorted(classes, key=lambda item: (item[1]["recall"], -item[1]["support"]))[:most]
    return ", ".join(
        f"{_short(name)}: {scores['recall']:.1%} of {_count(scores['support'])}"
        for name, scores in worst
        if scores["recall"] < 1
    )


def _confusions(summary: Mapping[str, Any], most: int = 3) -> str:
    """The most frequent pairs of true and predicted class; classes may be called 3 and 5, so a count names its unit."""
    names, matrix = summary["confusion"]["classes"], np.array(summary["confusion"]["matrix"])
    np.fill_diagonal(matrix, 0)
    worst = [divmod(int(index), len(names)) for index in np.argsort(-matrix, axis=None, kind="stable")[:most]]
    return ", ".join(
        f"{_short(names[true])} → {_short(names[predicted])}: {_count(int(matrix[true, predicted]))}"
        for true, predicted in worst
        if matrix[true, predicted]
    )


def _count(number: int, one: str = "image", many: str = "images") -> str:
    return f"{number} {one if number == 1 else many}"


def _short(label: str, most: int = 40) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"
