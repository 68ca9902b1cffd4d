"""Which images are trained on, which decide when to stop, and which are kept for the final mark."""

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
    """Assign every image to a split, stratified by label; a seed always gives the same assignment.

    Images of one group, near-duplicates of each other, are never separated; where they have several labels, which
    makes those doubtful, they stay in the training split. Splits that the dataset's own folders give are kept. Where
    it has a test (or val) folder, nothing is taken from the rest for that split. Of each label at least one image
    stays in the training split; a split gets its share of a label rounded to the nearest whole number, or as
    much less as its groups demand.

    Args:
        labels: label of each image.
        given: split of each image where its folder says one; images of `train/` may still become val or
            test if there is no folder for those.
        groups: group of each image.
        val: fraction of each label's images for validation, in [0, 1).
        test: likewise for testing.
        seed: of the shuffling.
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
    """For each label the groups that may be moved out of the training split."""
    members: dict[int, list[int]] = defaultdict(list)
    for index in free:
        members[groups[index]].append(index)
    pools: dict[str, list[list[int]]] = defaultdict(list)
    for group in members.values():
        if len({labels[index] for index in group}) == 1:
            pools[labels[group[0]]].append(group)
    return pools


def _take(groups: Sequence[list[int]], most: int) -> tuple[list[int], list[list[int]]]:
    """Whole groups of at most `most` images together, in their order, and the groups that are left."""
    taken: list[int] = []
    left: list[list[int]] = []
    for group in groups:
        if len(taken) + len(group) <= most:
            taken += group
        else:
            left.append(group)
    return taken, left
