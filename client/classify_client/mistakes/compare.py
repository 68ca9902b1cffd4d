"""Comparison of two runs over the same images: what was fixed, what is newly wrong, and whether it may be chance."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from classify_client.results.rows import Row


@dataclass(frozen=True)
class Pair:
    """One image in both runs, labelled and answered in both."""

    before: Row
    after: Row

    @property
    def path(self) -> str:
        """Its path in the second run."""
        return self.after.path


@dataclass
class ClassChange:
    """Images of one class that are in both runs."""

    images: int = 0
    right_before: int = 0
    right_after: int = 0
    fixed: int = 0
    broken: int = 0

    @property
    def p_value(self) -> float:
        """Probability of so large a difference if both models were equally good; see `mcnemar`."""
        return mcnemar(self.fixed, self.broken)


@dataclass
class Comparison:
    """The difference between two runs.

    Attributes:
        fixed: wrong before, right now.
        broken: right before, wrong now.
        still_wrong: wrong in both.
        total: counts over all classes.
        classes: counts by the true class in the second run.
        only_before, only_after: number of labelled images that are in one run only.
    """

    fixed: list[Pair] = field(default_factory=list)
    broken: list[Pair] = field(default_factory=list)
    still_wrong: list[Pair] = field(default_factory=list)
    total: ClassChange = field(default_factory=ClassChange)
    classes: dict[str, ClassChange] = field(default_factory=lambda: defaultdict(ClassChange))
    only_before: int = 0
    only_after: int = 0

    def add(self, pair: Pair) -> None:
        """Count one image."""
        was_right, is_right = not pair.before.is_miss, not pair.after.is_miss
        for change in (self.total, self.classes[pair.after.true_class]):
            change.images += 1
            change.right_before += was_right
            change.right_after += is_right
            change.fixed += is_right and not was_right
            change.broken += was_right and not is_right
        if not (was_right and is_right):
            (self.fixed if is_right else self.broken if was_right else self.still_wrong).append(pair)

    def changed_classes(self) -> list[tuple[str, ClassChange]]:
        """The classes with a change, the largest loss first."""
        changed = [(name, change) for name, change in self.classes.items() if change.fixed or change.broken]
        return sorted(changed, key=lambda entry: (entry[1].fixed - entry[1].broken, entry[0]))

    def record(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            **_counts(self.total),
            "only_before": self.only_before,
            "only_after": self.only_after,
            "classes": {name: _counts(change) for name, change in sorted(self.classes.items())},
            "fixed_files": list(_files(self.fixed)),
            "broken_files": list(_files(self.broken)),
            "still_wrong_files": list(_files(self.still_wrong)),
        }


class Comparator:
    """Compares the rows of a second run, added one by one, with those of a first.

    An image is identified by its path; one that was moved, for example to another label, by its name, size and time of
    change.

    Args:
        before: rows of the first run; the labelled ones are held in memory.
    """

    def __init__(self, before: Iterable[Row]) -> None:
        self._before = {row.path: row for row in before if row.is_labelled}
        self._has_before = bool(self._before)
        self._unmatched: list[Row] = []
        self._comparison = Comparison()

    def add(self, row: Row) -> None:
        """Add a row of the second run."""
        if not row.is_labelled:
            return
        if not self._has_before:
            # Nothing to compare with, and there may be millions of rows.
            self._comparison.only_after += 1
        elif (found := self._before.pop(row.path, None)) is not None:
            self._comparison.add(Pair(found, row))
        else:
            self._unmatched.append(row)

    def result(self) -> Comparison:
        """The comparison, when all rows were added."""
        moved = {_identity(row): row for row in self._before.values()}
        for row in self._unmatched:
            if (found := moved.pop(_identity(row), None)) is not None:
                self._comparison.add(Pair(found, row))
            else:
                self._comparison.only_after += 1
        self._comparison.only_before = len(moved)
        return self._comparison


def compare(before: Iterable[Row], after: Iterable[Row]) -> Comparison:
    """Compare two runs over the images that both have with a label and an answer."""
    comparator = Comparator(before)
    for row in after:
        comparator.add(row)
    return comparator.result()


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided exact p-value of McNemar's test (1947) that two models are equally good.

    Under this hypothesis `broken` follows Binomial(fixed + broken, 1/2).

    Args:
        fixed: images that only the second model predicts correctly.
        broken: images that only the first model predicts correctly.
    """
    trials = fixed + broken
    # In logarithms, because 2 ** trials overflows a float beyond 1,023 images.
    terms = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - trials * math.log(2)
        for k in range(min(fixed, broken) + 1)
    )
    return min(1.0, 2 * sum(map(math.exp, terms)))


def _identity(row: Row) -> tuple[str, int | None, str]:
    return row.path.rpartition("/")[2], row.size, row.modified


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
            "true": pair.after.true_class,
            "before": pair.before.predicted,
            "probability_before": pair.before.probability,
            "after": pair.after.predicted,
            "probability_after": pair.after.probability,
        }
