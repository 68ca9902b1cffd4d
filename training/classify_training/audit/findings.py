"""What may be wrong with the images of a dataset, the most suspicious first."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from classify_serving.contract.text import printable
from classify_serving.exchange.issue_types import (
    CONFIRMED,
    CONFUSION,
    DUPLICATE,
    OUTLIER,
    UNREADABLE,
    WRONG_LABEL,
)
from classify_training.audit.label_errors import LabelScores
from classify_training.audit.out_of_fold import UNKNOWN
from classify_training.data.dataset import Dataset
from classify_training.data.examples import Example, ImageFile

_TOP: Final = 5


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An image that may have something wrong.

    Attributes:
        file: path and label.
        digest: SHA-256 of its content, 64 hexadecimal digits.
        place: its number among the examples of the dataset; None if it is none of them.
        issue: type of the issue, one of `ISSUE_TYPES`.
        reason: why, in a few words.
        suggested: the label that is most probable, apart from its own; empty if nothing has judged it.
        top: the most probable labels with their probabilities, 0-1; its own label is among them.
        doubt: ln of how many times the suggested label is as probable as its own.
        is_proposed: whether moving it to the suggested label is the likely remedy.
    """

    file: ImageFile
    digest: str
    place: int | None = None
    issue: str
    reason: str
    suggested: str = ""
    top: tuple[tuple[str, float], ...] = ()
    doubt: float = 0.0
    is_proposed: bool = False

    @property
    def probability(self) -> float | None:
        """Probability of the suggested label, 0-1; None if nothing has judged it."""
        return dict(self.top)[self.suggested] if self.top else None


@dataclass(frozen=True)
class JudgedDataset:
    """A dataset whose labels were judged.

    Attributes:
        dataset: the dataset; examples that it left out because the same picture has several labels are at the end.
        labels: the C labels, sorted; the columns of the scores.
        scores: what out-of-fold models think of the labels.
        weakness: why no label can be called likely wrong; empty if labels can be judged.
        outliers: why each image looks unlike the others; an empty text if it does not.
    """

    dataset: Dataset
    labels: tuple[str, ...]
    scores: LabelScores
    weakness: str
    outliers: Sequence[str]


def find_issues(judged: JudgedDataset, confirmed: Collection[tuple[str, str]] = frozenset()) -> list[Finding]:
    """What may be wrong, the most suspicious first; images with nothing to say about are left out.

    Args:
        judged: the dataset and what models think of it.
        confirmed: (SHA-256, label) that a person has confirmed.
    """
    found = sorted(_copies(judged.dataset, judged), key=_rank) + sorted(_others(judged), key=_rank)
    return _suppress_confirmed([*found, *_unreadable(judged.dataset)], confirmed)


def find_issues_of_run(
    dataset: Dataset,
    judged: JudgedDataset | None,
    misses: Iterable[Finding],
    confirmed: Collection[tuple[str, str]] = frozenset(),
) -> list[Finding]:
    """What may be wrong with the images of a training, the most suspicious first.

    Args:
        dataset: what was trained on, with its copies under other labels and unreadable files.
        judged: the same dataset and what out-of-fold models think of its labels; None if these were not asked. Where
            they only doubt a label, nothing is said: the trained model knows more than they do.
        misses: test images that the trained model takes for another class, the surest first.
        confirmed: (SHA-256, label) that a person has confirmed.
    """
    others = sorted(_others(judged), key=_rank) if judged else []
    found = [*_copies(dataset, None), *(each for each in others if each.issue != CONFUSION)]
    listed = {each.place for each in found}
    found += [each for each in misses if each.place not in listed]
    return _suppress_confirmed([*found, *_unreadable(dataset)], confirmed)


def _rank(finding: Finding) -> float:
    return -finding.doubt


def _suppress_confirmed(findings: Iterable[Finding], confirmed: Collection[tuple[str, str]]) -> list[Finding]:
    return [
        replace(each, issue=CONFIRMED, is_proposed=False) if (each.digest, each.file.label) in confirmed else each
        for each in findings
    ]


def _copies(dataset: Dataset, judged: JudgedDataset | None) -> Iterator[Finding]:
    """The same picture under several labels: one of them is wrong."""
    places = {example.digest: place for place, example in enumerate(judged.dataset.examples)} if judged else {}
    for group in dataset.conflicts:
        for example in group:
            others = sorted({other.file.label for other in group} - {example.file.label})
            reason = f"the same picture is in the dataset as {', '.join(others)} too"
            if judged:
                yield replace(_judge(judged, places[example.digest], example), issue=DUPLICATE, reason=reason)
            else:
                yield Finding(file=example.file, digest=example.digest, issue=DUPLICATE, reason=reason)


def _others(judged: JudgedDataset) -> Iterator[Finding]:
    """Of many near-duplicates, one may have a wrong label: they count as much as their own label is doubted."""
    near = _near_duplicates_elsewhere(judged.dataset)
    for place, example in enumerate(judged.dataset.examples):
        if judged.scores.labels[place] == UNKNOWN:
            continue
        found = _judge(judged, place, example)
        is_sure = bool(judged.scores.is_likely_wrong[place]) and not judged.weakness
        if other := near.get(place):
            reason = f"very similar to {printable(other.path.name)}, which is labelled {other.label}"
            yield replace(found, issue=DUPLICATE, reason=reason, is_proposed=is_sure)
        elif is_sure:
            yield replace(found, issue=WRONG_LABEL, is_proposed=True)
        elif judged.outliers[place]:
            yield replace(found, issue=OUTLIER, reason=judged.outliers[place])
        elif found.doubt > 0:
            yield found


def _judge(judged: JudgedDataset, place: int, example: Example) -> Finding:
    """What the models say of one image with one label."""
    probabilities = judged.scores.probabilities[place]
    # All images with this label may be copies of images with another one.
    own = judged.labels.index(example.file.label) if example.file.label in judged.labels else None
    order = np.argsort(-probabilities, kind="stable").tolist()
    best = next(label for label in order if label != own)
    shown = order[:_TOP] if own is None or own in order[:_TOP] else [*order[: _TOP - 1], own]
    given = float(probabilities[own]) if own is not None else 0.0
    suggested, label = judged.labels[best], example.file.label
    return Finding(
        file=example.file,
        digest=example.digest,
        place=place,
        issue=CONFUSION,
        reason=f"{suggested}: {probabilities[best]:.1%}, {label}: {given:.1%}",
        suggested=suggested,
        top=tuple((judged.labels[number], float(probabilities[number])) for number in shown),
        doubt=float(np.log(probabilities[best] / given)) if given else 0.0,
    )


def _near_duplicates_elsewhere(dataset: Dataset) -> dict[int, ImageFile]:
    """For each place of an image that has a near-duplicate under another label, that file."""
    groups: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(dataset.groups.tolist()):
        groups[group].append(place)
    found = {}
    for places in groups.values():
        for place in places:
            label = dataset.examples[place].file.label
            others = [dataset.examples[other].file for other in places]
            if other := next((file for file in others if file.label != label), None):
                found[place] = other
    return found


def _unreadable(dataset: Dataset) -> Iterator[Finding]:
    for file, error in dataset.corrupt:
        yield Finding(file=file, digest="", issue=UNREADABLE, reason=printable(str(error)))
