"""Folds for cross-validation."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def deal_folds(targets: NDArray[np.int64], groups: NDArray[np.int64], seed: int, count: int = 3) -> NDArray[np.int64]:
    """A fold for each image, int64 [N]: images of one group share one, and the classes are spread evenly.

    It also works with classes that have fewer images than there are folds.

    Args:
        targets: int64 [N], class of each image.
        groups: int64 [N], equal for near-duplicates of each other.
        seed: of the order in which groups are dealt.
        count: number of folds.
    """
    folds = np.zeros(len(targets), np.int64)
    counts = np.zeros((count, int(targets.max()) + 1))
    for members in _shuffled_groups(groups, seed):
        target = targets[members[0]]
        fold = min(range(count), key=lambda number: (counts[number, target], counts[number].sum()))
        folds[members] = fold
        counts[fold, target] += len(members)
    return folds


def _shuffled_groups(groups: NDArray[np.int64], seed: int) -> Iterator[Sequence[int]]:
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(place)
    names = list(members)
    for number in np.random.default_rng(seed).permutation(len(names)):
        yield members[names[number]]
