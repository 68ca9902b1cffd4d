"""Which images are trained on, which decide when to stop, and which are kept for the final mark."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from classify_training.dataset import Split


def assign_splits(
    labels: Sequence[str], given: Sequence[Split | None], val: float, test: float, seed: int
) -> list[Split]:
    """Assign every image to a split, stratified by label; a seed always gives the same assignment.

    Splits that the dataset's own folders give are kept. Where it has a test (or val) folder, nothing is
    taken from the rest for that split. Of each label at least one image stays in the training split; a
    split gets its share of a label rounded to the nearest whole number.

    Args:
        labels: label of each image.
        given: split of each image where its folder says one; images of `train/` may still become val or
            test if there is no folder for those.
        val: fraction of each label's images for validation, in [0, 1).
        test: likewise for testing.
        seed: of the shuffling.
    """
    has_test, has_val = "test" in given, "val" in given
    groups: dict[str, list[int]] = defaultdict(list)
    splits: list[Split] = ["train"] * len(labels)
    for index, (label, split) in enumerate(zip(labels, given, strict=True)):
        if split in ("val", "test"):
            splits[index] = split
        else:
            groups[label].append(index)
    for position, label in enumerate(sorted(groups)):
        indices = np.random.default_rng([seed, position]).permutation(groups[label]).tolist()
        for name, fraction, taken in (("test", test, has_test), ("val", val, has_val)):
            count = 0 if taken else min(round(len(groups[label]) * fraction), len(indices) - 1)
            for index in indices[:count]:
                splits[index] = "test" if name == "test" else "val"
            indices = indices[count:]
    return splits
