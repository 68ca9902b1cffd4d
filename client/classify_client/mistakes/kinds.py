"""Kinds of miss, so that it is clear what to do with each."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from classify_client.results.reader import Item, Results
from classify_serving.exchange.train_manifest import TrainManifest

CONFUSION: Final = "confusion"
WRONG_LABEL: Final = "wrong-label"
DUPLICATE: Final = "duplicate"
UNLIKE: Final = "outlier"
CONFIRMED: Final = "confirmed"
KINDS: Final[Mapping[str, str]] = {
    WRONG_LABEL: "likely wrong label",
    DUPLICATE: "trained on under another label",
    UNLIKE: "unlike anything trained on",
    CONFUSION: "confusion",
    CONFIRMED: "label confirmed",
}
"""Kind -> how it is called in the report."""
NOTES: Final[Mapping[str, str]] = {
    WRONG_LABEL: "look at these first",
    DUPLICATE: "one of the two labels is wrong",
    UNLIKE: "another kind of picture",
}
"""Kind -> what the overview says of it; the others are not worth a place there."""

MARGIN: Final = 0.5
"""How much more the predicted class must get than the given one for the label to be doubted."""


@dataclass(frozen=True)
class Finding:
    """What kind of miss one is, and the reason in a few words; `label` is another one that it may deserve."""

    kind: str
    reason: str
    label: str = ""


def class_thresholds(results: Results) -> dict[str, float]:
    """How sure the model usually is of each class: mean probability of class j over the files labelled j, 0-1.

    The per-class thresholds of confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning:
    Estimating Uncertainty in Dataset Labels", equation 2).
    """
    return {name: total / count for name, (count, total) in results.given.items()}


@dataclass(frozen=True)
class Nearest:
    """The training image that one is most like: its label, and whether they are as like as near-duplicates, or hardly.

    An image that is like nothing in training has a nearest one too.
    """

    label: str
    is_alike: bool
    is_unlike: bool


def find_kinds(
    results: Results,
    digests: Mapping[str, str],
    trained_on: TrainManifest | None = None,
    nearest: Mapping[str, Nearest] | None = None,
) -> dict[str, Finding]:
    """The kind of each miss, by path.

    A label is doubted where the model is at least as sure of another class as it usually is of that class's own
    images (the off-diagonal of the confident joint), and by `MARGIN` surer than of the given one.

    Args:
        results: of the run.
        digests: SHA-256 of each miss, by path.
        trained_on: what the model was trained on, if that is known.
        nearest: the training image that each miss is most like, by path, as far as that is known.
    """
    thresholds = class_thresholds(results)
    neighbours = nearest or {}
    findings = {}
    for item in results.misses:
        trained_as = trained_on.label(digests.get(item.path, "")) if trained_on else ""
        if trained_as and trained_as != item.label:
            findings[item.path] = Finding(DUPLICATE, f"the same picture was trained on as {trained_as}", trained_as)
        else:
            found = _by_neighbour(item, neighbours.get(item.path))
            findings[item.path] = found or _by_probability(item, thresholds)
    return findings


def _by_neighbour(item: Item, nearest: Nearest | None) -> Finding | None:
    if nearest is None:
        return None
    if nearest.is_unlike:
        return Finding(UNLIKE, f"nothing like it was trained on; nearest is {nearest.label}")
    if nearest.is_alike and nearest.label != item.label:
        return Finding(DUPLICATE, f"nearly the same picture was trained on as {nearest.label}", nearest.label)
    return None


def _by_probability(item: Item, thresholds: Mapping[str, float]) -> Finding:
    given = item.probability_of(item.true)
    usual = thresholds.get(item.predicted, 1.0)
    reason = f"{item.probability:.1%} {item.predicted}, {given:.1%} {item.true}"
    if item.probability >= usual and item.probability - given >= MARGIN:
        return Finding(WRONG_LABEL, f"{reason}; {item.predicted} usually gets {usual:.1%}")
    return Finding(CONFUSION, reason)


def settle(
    results: Results,
    findings: Mapping[str, Finding],
    digests: Mapping[str, str],
    confirmed: Collection[tuple[str, str]],
) -> dict[str, Finding]:
    """Flag nothing again that a person has looked at and kept, known by (SHA-256, label)."""
    labels = {item.path: item.label for item in results.misses}
    return {
        path: Finding(CONFIRMED, finding.reason) if (digests.get(path), labels[path]) in confirmed else finding
        for path, finding in findings.items()
    }
