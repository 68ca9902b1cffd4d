"""Balancing of classes: small classes are merged, large ones reduced, and images of the others repeated.

Only the training split is balanced: validation and test keep the proportions of the dataset.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import ceil
from statistics import median

import numpy as np
from numpy.typing import NDArray

from classify_training.errors import DatasetError


def plan_merges(
    counts: Mapping[str, int], min_images: int, others: str = "others", by_hand: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Decide which folders become part of another class: folder -> class.

    Merges chosen by the user come first. Then every class with fewer than `min_images` training images is merged into
    `others`, if that combines at least two folders: a single small class would only lose its name. Nothing is merged
    if only one class would be left.

    Args:
        counts: training images of each folder.
        min_images: classes with fewer images are merged; 0 merges none.
        others: name of the class that they are merged into.
        by_hand: merges chosen by the user, folder -> class.

    Raises:
        DatasetError: a merge names a folder that does not exist, or merges form a chain.
    """
    merges = dict(by_hand or {})
    for folder, target in merges.items():
        if folder not in counts:
            raise DatasetError(f"cannot merge {folder} into {target}: the dataset has no folder {folder}")
        if target in merges:
            raise DatasetError(f"cannot merge {folder} into {target}: {target} is merged away itself")
    merged = merge_counts(counts, merges)
    small = sorted(name for name, count in merged.items() if count < min_images and name != others)
    gathered = len(small) + (others in merged)
    if gathered < 2 or len(merged) - gathered + 1 < 2:
        return merges
    final = {folder: others if target in small else target for folder, target in merges.items()}
    return final | {name: others for name in small if name in counts and name not in merges}


def merge_counts(counts: Mapping[str, int], merges: Mapping[str, str]) -> dict[str, int]:
    """Count the images of each class after merging folders."""
    merged: Counter[str] = Counter()
    for folder, count in counts.items():
        merged[merges.get(folder, folder)] += count
    return dict(merged)


def balance(classes: Sequence[str], max_ratio: float, oversample: bool, seed: int) -> NDArray[np.int64]:
    """Choose the images of an epoch: int64 indices into `classes`, grouped by class, some repeated.

    A class with more than `max_ratio` times the median class size is reduced to that size, at random. With
    `oversample` the images of every class are then repeated up to the size of the largest class, each as often as any
    other of its class or once more. Augmentation changes every repetition.

    Args:
        classes: class of each training image, after merging.
        max_ratio: at least 1; infinity keeps all images.
        oversample: whether to repeat images.
        seed: random seed; equal arguments give equal results.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(classes):
        members[name].append(index)
    limit = max_ratio * median(len(indices) for indices in members.values())
    rng = np.random.default_rng(seed)
    kept = {name: rng.permutation(members[name])[: ceil(min(limit, len(members[name])))] for name in sorted(members)}
    size = max(len(indices) for indices in kept.values())
    if not oversample:
        return np.concatenate(list(kept.values()))
    return np.concatenate([np.resize(indices, size) for indices in kept.values()])


def choose_in_turns(
    examples: NDArray[np.int64], targets: NDArray[np.int64], most: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose up to `most` examples at random, the classes in turns, so that small classes are among them.

    Args:
        examples: int64 [N].
        targets: int64, class of each example of the dataset.
        most: largest number.
        rng: chooses.

    Returns:
        int64: one example of each class, then a second one of each class, and so on.
    """
    shuffled = rng.permutation(examples)
    classes = targets[shuffled]
    rounds = np.empty(len(shuffled), np.int64)
    for target in np.unique(classes):
        members = classes == target
        rounds[members] = np.arange(members.sum())
    return shuffled[np.lexsort((classes, rounds))][:most]


def image_weights(targets: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """A weight for each image, float32 [N], with which every class has the same share; `targets` are int64 [N]."""
    return class_weights(np.maximum(np.bincount(targets, minlength=classes), 1))[targets]


def class_weights(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Weights with which every class has the same share of the loss: n / (C n_c) (King and Zeng, 2001).

    Their mean over the images is 1.

    Args:
        counts: int64 [C], images of each class, at least 1.

    Returns:
        float32 [C].
    """
    weights: NDArray[np.float32] = (counts.sum() / (len(counts) * counts)).astype(np.float32)
    return weights
