"""Splitting a dataset into images for training, validation and the final test."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from classify_training.data.examples import Split


def assign_splits(
    labels: Sequence[str],
    given: Sequence[Split | None],
    groups: Sequence[int],
    val: float,
    test: float,
    seed: int,
) -> list[Split]:
    """Assign every image to a split, stratified by label; equal arguments give equal results.

    Near-duplicates are never put into different splits; if they have different labels, which makes these doubtful,
    they stay in the training split. Images in the dataset's own test (or val) folder stay in that split, and then no
    other image is added to it. At least one image of each label stays in the training split. A split gets its
    fraction of a label rounded to the nearest whole number, or less if groups do not fit.

    Args:
        labels: label of each image.
        given: split of each image if its folder determines one; images in `train/` may become val or test if there
            are no folders for these.
        groups: group of each image; near-duplicates are in one group.
        val: fraction of each label's images for validation, in [0, 1).
        test: fraction of each label's images for testing, in [0, 1).
        seed: random seed of the shuffling.
    """
    splits: list[Split] = ["train" if split is None else split for split in given]
    free = [index for index, split in enumerate(given) if split not in ("val", "test")]
    pools = _pools(labels, groups, free)
    has_test, has_val = "test" in given, "val" in given
    for position, label in enumerate(sorted(pools)):
        pool = pools[label]
        total = sum(labels[index] == label for index in free)
        order = np.random.default_rng([seed, position]).permutation(len(pool)).tolist()
        shuffled = [pool[place] for place in order]
        for name, share in (("test", 0.0 if has_test else test), ("val", 0.0 if has_val else val)):
            left = sum(map(len, shuffled))
            taken, shuffled = _take(shuffled, min(round(total * share), left - 1))
            for index in taken:
                splits[index] = "test" if name == "test" else "val"
    return splits


def _pools(labels: Sequence[str], groups: Sequence[int], free: Sequence[int]) -> dict[str, list[list[int]]]:
    """For each label, the groups that may be moved out of the training split."""
    members: dict[int, list[int]] = defaultdict(list)
    for index in free:
        members[groups[index]].append(index)
    pools: dict[str, list[list[int]]] = defaultdict(list)
    for group in members.values():
        if len({labels[index] for index in group}) == 1:
            pools[labels[group[0]]].append(group)
    return pools


def _take(groups: Sequence[list[int]], limit: int) -> tuple[list[int], list[list[int]]]:
    """Take whole groups with at most `limit` images together; return their images, and the groups that are left."""
    taken: list[int] = []
    left: list[list[int]] = []
    for group in groups:
        if len(taken) + len(group) <= limit:
            taken += group
        else:
            left.append(group)
    return taken, left
