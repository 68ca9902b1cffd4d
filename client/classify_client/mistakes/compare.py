"""Two runs over the same images: what the second gets right that the first did not, and the other way round."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from classify_client.results.reader import Item


@dataclass(frozen=True)
class Pair:
    """One file in both runs; labelled and answered in both."""

    before: Item
    after: Item

    @property
    def path(self) -> str:
        """What the second run calls it."""
        return self.after.path


@dataclass
class ClassChange:
    """Files of one class that are in both runs."""

    images: int = 0
    right_before: int = 0
    right_after: int = 0
    fixed: int = 0
    broken: int = 0

    @property
    def p_value(self) -> float:
        """That both runs are as good on it; see `mcnemar`."""
        return mcnemar(self.fixed, self.broken)


@dataclass
class Comparison:
    """What changed.

    Attributes:
        fixed: wrong before, right now.
        broken: right before, wrong now.
        still_wrong: wrong in both.
        total: over all classes.
        classes: by the true class of the second run.
        only_before, only_after: labelled files that one run has alone.
    """

    fixed: list[Pair] = field(default_factory=list)
    broken: list[Pair] = field(default_factory=list)
    still_wrong: list[Pair] = field(default_factory=list)
    total: ClassChange = field(default_factory=ClassChange)
    classes: dict[str, ClassChange] = field(default_factory=lambda: defaultdict(ClassChange))
    only_before: int = 0
    only_after: int = 0

    def add(self, pair: Pair) -> None:
        """Take one file into account."""
        was_right, is_right = not pair.before.is_miss, not pair.after.is_miss
        for change in (self.total, self.classes[pair.after.true]):
            change.images += 1
            change.right_before += was_right
            change.right_after += is_right
            change.fixed += is_right and not was_right
            change.broken += was_right and not is_right
        if not (was_right and is_right):
            (self.fixed if is_right else self.broken if was_right else self.still_wrong).append(pair)

    def changed_classes(self) -> list[tuple[str, ClassChange]]:
        """Classes with a change, those that lost most first."""
        changed = [(name, change) for name, change in self.classes.items() if change.fixed or change.broken]
        return sorted(changed, key=lambda entry: (entry[1].fixed - entry[1].broken, entry[0]))

    def record(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            **_counts(self.total),
            "only_before": self.only_before,
            "only_after": self.only_after,
            "classes": {name: _counts(change) for name, change in sorted(self.classes.items())},
            "fixed_files": list(_files(self.fixed)),
            "broken_files": list(_files(self.broken)),
            "still_wrong_files": list(_files(self.still_wrong)),
        }


def compare(before: Iterable[Item], after: Iterable[Item]) -> Comparison:
    """Compare two runs over the images that both have with a label and an answer.

    A file is the same by its path; one that was moved, to another label say, by name, size and time of change.
    """
    earlier = {item.path: item for item in before if item.is_labelled}
    comparison = Comparison()
    if not earlier:
        # Nothing to look for, and there may be millions.
        comparison.only_after = sum(item.is_labelled for item in after)
        return comparison
    strangers = []
    for item in after:
        if not item.is_labelled:
            continue
        if (found := earlier.pop(item.path, None)) is not None:
            comparison.add(Pair(found, item))
        else:
            strangers.append(item)
    moved = {_identity(item): item for item in earlier.values()}
    for item in strangers:
        if (found := moved.pop(_identity(item), None)) is not None:
            comparison.add(Pair(found, item))
        else:
            comparison.only_after += 1
    comparison.only_before = len(moved)
    return comparison


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided exact p-value that two models are equally good, from the images only one got right (McNemar 1947).

    If they were, `broken` would follow Binomial(fixed + broken, 1/2).
    """
    trials = fixed + broken
    # In logarithms, since 2 ** trials is no float beyond 1,023 images.
    terms = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - trials * math.log(2)
        for k in range(min(fixed, broken) + 1)
    )
    return min(1.0, 2 * sum(map(math.exp, terms)))


def _identity(item: Item) -> tuple[str, tuple[str, str]]:
    return item.path.rpartition("/")[2], item.stamp


def _counts(change: ClassChange) -> Mapping[str, Any]:
    return {
        "images": change.images,
        "right_before": change.right_before,
        "right_after": change.right_after,
        "fixed": change.fixed,
        "broken": change.broken,
        "p_value": change.p_value,
    }


def _files(pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    for pair in pairs:
        yield {
            "path": pair.path,
            "true": pair.after.true,
            "before": pair.before.predicted,
            "probability_before": pair.before.probability,
            "after": pair.after.predicted,
            "probability_after": pair.after.probability,
        }
