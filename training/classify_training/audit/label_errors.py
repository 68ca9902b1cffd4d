"""Which labels are probably wrong."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_training.audit.out_of_fold import (
    UNKNOWN,
    Choice,
    Floats,
    ImageSet,
    Labels,
    choose,
    out_of_fold_probabilities,
)

LIKELY_WRONG: Final = float(np.log(20))
"""A label is likely wrong if another one is at least 20 times as probable. Measured precision: docs/benchmarks.md."""

_PLANTED_SHARE: Final = 0.05
_FEWEST_PLANTED: Final = 10
_WEAK: Final = 1 / 3


@dataclass(frozen=True)
class LabelScores:
    """What out-of-fold models think of the labels of N images.

    Attributes:
        probabilities: float64 [N,C], of each label.
        labels: int64 [N], as given; `UNKNOWN` if not known.
        choice: features and regularisation.
        can_judge: bool [N]; false if no model can have seen the label, because all its images are near-duplicates.
    """

    probabilities: Floats
    labels: Labels
    choice: Choice
    can_judge: NDArray[np.bool_]

    @cached_property
    def suggested(self) -> Labels:
        """int64 [N], the most probable label other than the given one."""
        others = self.probabilities.copy()
        known = np.flatnonzero(self.labels != UNKNOWN)
        others[known, self.labels[known]] = -1
        suggested: Labels = others.argmax(axis=1)
        return suggested

    @cached_property
    def doubts(self) -> Floats:
        """float64 [N], ln of how many times the suggested label is as probable as the given one; 0 if unknown."""
        places = np.arange(len(self.labels))
        doubts: Floats = np.log(self.probabilities[places, self.suggested] / self.probabilities[places, self.labels])
        doubts[self.labels == UNKNOWN] = 0
        return doubts

    @property
    def accuracy(self) -> float:
        """Share of the known labels that are the most probable ones, 0-1."""
        return float((self.doubts[self.labels != UNKNOWN] <= 0).mean())

    @property
    def is_likely_wrong(self) -> NDArray[np.bool_]:
        """Bool [N]."""
        return self.can_judge & (self.doubts > LIKELY_WRONG)


@dataclass(frozen=True)
class SelfTest:
    """What comes out if labels are made wrong on purpose.

    Attributes:
        planted: number of labels that were replaced by another one at random.
        found: how many of these then counted as likely wrong.
    """

    planted: int
    found: int

    @property
    def is_weak(self) -> bool:
        """Whether so few are found that these images or this network do not suffice to judge labels."""
        return self.found < _WEAK * self.planted


def score_labels(images: ImageSet, seed: int) -> LabelScores:
    """Judge each label by models that were not fitted to its image.

    Args:
        images: at least two labels occur.
        seed: of the folds.
    """
    return _judge(images, choose(images, seed), seed)


def _judge(images: ImageSet, choice: Choice, seed: int) -> LabelScores:
    known = images.labels != UNKNOWN
    pairs = np.unique(np.stack([images.labels[known], images.groups[known]]), axis=1)
    groups = np.bincount(pairs[0], minlength=images.classes)
    probabilities = out_of_fold_probabilities(images, choice, seed)
    return LabelScores(probabilities, images.labels, choice, known & (groups[images.labels] > 1))


def with_wrong_labels(images: ImageSet, places: NDArray[np.int64], rng: np.random.Generator) -> ImageSet:
    """The same images, of which those at some places, whose labels are known, have another label at random."""
    labels = images.labels.copy()
    labels[places] = (labels[places] + rng.integers(1, images.classes, len(places))) % images.classes
    return replace(images, labels=labels)


def self_test(images: ImageSet, scores: LabelScores, seed: int) -> SelfTest:
    """Replace one label in twenty by another one at random, and count how many of these are found.

    Args:
        images: as judged.
        scores: of their labels; labels that are likely wrong as they are stay out of the test.
        seed: of the choice of images and of their labels.
    """
    rng = np.random.default_rng(seed)
    trusted = np.flatnonzero((images.labels != UNKNOWN) & ~scores.is_likely_wrong)
    count = min(len(trusted), max(_FEWEST_PLANTED, round(_PLANTED_SHARE * len(images.labels))))
    planted = rng.choice(trusted, count, replace=False)
    found = _judge(with_wrong_labels(images, planted, rng), scores.choice, seed)
    return SelfTest(count, int(found.is_likely_wrong[planted].sum()))
