"""Issue types of misses: they say what is probably wrong, and so what to do."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from classify_client.results.reader import Item, Results
from classify_client.results.rows import Row
from classify_serving.exchange.issue_types import CONFIRMED, CONFUSION, DUPLICATE, OUTLIER, WRONG_LABEL
from classify_serving.exchange.label_scores import LabelScore
from classify_serving.exchange.train_manifest import TrainManifest

NOTES: Final[Mapping[str, str]] = {
    WRONG_LABEL: "look at these first",
    DUPLICATE: "one of the two labels is wrong",
    OUTLIER: "another kind of picture",
}
"""Issue type -> its note in the report's overview; the other types are not listed there."""

MARGIN: Final = 0.5
"""A label is doubted only if the predicted class is this much more probable than the given one."""

LEAST_ACCURACY: Final = 0.6
"""Of a model that may doubt labels; the same as for an audit."""


@dataclass(frozen=True)
class LabelIssue:
    """The issue of a miss.

    Attributes:
        type: one of `ISSUE_TYPES`.
        reason: why, in a few words.
        label: the label that the image may deserve, if known.
        is_conflict: whether the same content has two labels; the prediction cannot say which of them is right.
        content: SHA-256, if misses with another label have the same content; else empty.
        doubt: ln of how many times another label is as probable, by models that were not fitted to the image; None if
            there are none.
    """

    type: str
    reason: str
    label: str = ""
    is_conflict: bool = False
    content: str = ""
    doubt: float | None = None


@dataclass(frozen=True)
class Nearest:
    """The most similar training image.

    Attributes:
        label: its label.
        is_near_duplicate: whether the two count as near-duplicates.
        is_outlier: whether even this image is not similar.
        places: numbers of the most similar images in the embeddings, its own first.
    """

    label: str
    is_near_duplicate: bool
    is_outlier: bool
    places: Sequence[int] = ()


def class_thresholds(results: Results) -> dict[str, float]:
    """Mean probability of class j over the images labelled j, 0-1: how sure the model usually is of each class.

    The per-class thresholds of confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning:
    Estimating Uncertainty in Dataset Labels", equation 2).
    """
    return {name: total / count for name, (count, total) in results.labelled.items()}


def can_doubt(results: Results) -> bool:
    """Whether the model is right on so many of the labelled images that what it says is evidence against a label."""
    labelled = sum(count for count, _ in results.labelled.values())
    return labelled - len(results.misses) >= LEAST_ACCURACY * labelled


@dataclass(frozen=True)
class Evidence:
    """What is known about the misses besides the predictions.

    Attributes:
        digests: SHA-256 of each miss and of each broken file with a label, by path; one without it has gone.
        manifest: what the model was trained on, if known.
        scores: what models that were not fitted to the image think of its label, as far as known.
        nearest: the most similar training image of each miss, by path, as far as known.
        confirmed: (SHA-256, label) that a person has confirmed.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    manifest: TrainManifest | None = None
    scores: Mapping[tuple[str, str], LabelScore] = field(default_factory=dict)
    nearest: Mapping[str, Nearest] = field(default_factory=dict)
    confirmed: Collection[tuple[str, str]] = frozenset()


def find_issues(results: Results, evidence: Evidence) -> dict[str, LabelIssue]:
    """The issue of each miss, by path.

    A label is doubted if the model is at least as sure of another class as it usually is of that class's own images
    (the off-diagonal of the confident joint), and by `MARGIN` surer than of the given one. A model that is right on
    less than `LEAST_ACCURACY` of the images is no evidence against a label.
    """
    thresholds = class_thresholds(results) if can_doubt(results) else None
    labels: dict[str, set[str]] = defaultdict(set)
    for item in results.misses:
        labels[evidence.digests.get(item.row.path, "")].add(item.row.true_label)
    labels.pop("", None)
    issues = {item.row.path: _find(item.row, evidence, thresholds, labels) for item in results.misses}
    for path, issue in issues.items():
        if len(labels.get(digest := evidence.digests.get(path, ""), ())) > 1:
            issues[path] = replace(issue, content=digest)
    return suppress_confirmed(results, issues, evidence)


def _find(
    row: Row, evidence: Evidence, thresholds: Mapping[str, float] | None, labels: Mapping[str, Collection[str]]
) -> LabelIssue:
    """The issue of one miss.

    Args:
        row: of the miss.
        evidence: what is known besides the predictions.
        thresholds: as of `class_thresholds`; None if the model is no evidence against a label.
        labels: those of all misses with the same content, by SHA-256.
    """
    digest = evidence.digests.get(row.path, "")
    in_dataset = evidence.manifest.labels(digest) if evidence.manifest else frozenset[str]()
    if others := sorted(in_dataset - {row.true_label}):
        # An image with several labels was left out of the training.
        where = "is in the dataset" if len(in_dataset) > 1 else "was trained on"
        reason = f"the same picture {where} as {', '.join(others)}" + (" too" if len(in_dataset) > 1 else "")
        return LabelIssue(DUPLICATE, reason, others[0], is_conflict=True)
    if others := sorted(set(labels.get(digest, ())) - {row.true_label}):
        reason = f"the same picture is here as {', '.join(others)} too"
        return LabelIssue(DUPLICATE, reason, others[0], is_conflict=True)
    # A model that has learnt a wrong label is no evidence for it.
    score = evidence.scores.get((digest, row.true_label))
    doubted = _by_score(row, score) if score else _by_probability(row, thresholds)
    return _by_neighbour(row, evidence.nearest.get(row.path)) or doubted


def _by_neighbour(row: Row, nearest: Nearest | None) -> LabelIssue | None:
    if nearest is None:
        return None
    if nearest.is_outlier:
        return LabelIssue(OUTLIER, f"no other training image is similar; the nearest one is labelled {nearest.label}")
    if nearest.is_near_duplicate and nearest.label != row.true_label:
        return LabelIssue(DUPLICATE, f"very similar to a training image labelled {nearest.label}", nearest.label)
    return None


def _by_score(row: Row, score: LabelScore) -> LabelIssue:
    reason = f"models that have not seen it take it for {score.suggested}, not {row.true_label}"
    if score.is_likely_wrong:
        return LabelIssue(WRONG_LABEL, reason, score.suggested, doubt=score.doubt)
    if score.doubt > 0:
        return LabelIssue(CONFUSION, f"{reason}, but are not sure", score.suggested, doubt=score.doubt)
    return LabelIssue(CONFUSION, f"models that have not seen it take it for {row.true_label} too", doubt=score.doubt)


def _by_probability(row: Row, thresholds: Mapping[str, float] | None) -> LabelIssue:
    given = row.probability_of(row.true_class)
    reason = f"{row.predicted}: {row.probability:.1%}, {row.true_class}: {given:.1%}"
    if thresholds is None:
        return LabelIssue(CONFUSION, reason)
    usual = thresholds.get(row.predicted, 1.0)
    if row.probability >= usual and row.probability - given >= MARGIN:
        return LabelIssue(WRONG_LABEL, f"{reason}; images labelled {row.predicted} get {usual:.1%} on average")
    return LabelIssue(CONFUSION, reason)


def suppress_confirmed(results: Results, issues: Mapping[str, LabelIssue], evidence: Evidence) -> dict[str, LabelIssue]:
    """The same issues, without doubting labels that a person has confirmed."""
    keys = {item.row.path: (evidence.digests.get(item.row.path), item.row.true_label) for item in results.misses}
    return {
        path: LabelIssue(CONFIRMED, issue.reason, content=issue.content) if keys[path] in evidence.confirmed else issue
        for path, issue in issues.items()
    }


def most_suspicious_first(misses: Iterable[Item], issues: Mapping[str, LabelIssue]) -> list[Item]:
    """Misses with doubted labels first, then outliers, confusions and confirmed labels; in each the surest first.

    What models that were not fitted to the image think counts more than what the model thinks.
    """

    def rank(item: Item) -> tuple[int, bool, float, str]:
        row, issue = item.row, issues[item.row.path]
        group = {CONFUSION: 2, OUTLIER: 1, CONFIRMED: 3}.get(issue.type, 0)
        if issue.doubt is not None:
            return group, False, -issue.doubt, row.path
        return group, True, row.margin, row.path

    return sorted(misses, key=rank)
