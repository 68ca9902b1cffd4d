"""A figure of random augmentations of a dataset's own images."""

from pathlib import Path

import numpy as np

from classify_training.config import AugmentConfig
from classify_training.data.plan import Plan
from classify_training.evaluation.figures import draw_preview
from classify_training.model.augmentation import Augmentation


def write_preview(plan: Plan, config: AugmentConfig, images: int, repeats: int, seed: int, path: Path) -> None:
    """Draw some training images, from as many classes as possible, and augmentations of each.

    Args:
        plan: the dataset and its splits.
        config: options of augmentation.
        images: number of images.
        repeats: number of augmentations of each image.
        seed: random seed of the choice and of augmentation.
        path: PNG file to write.

    Raises:
        RunError: the file cannot be written.
    """
    train = plan.indices("train")
    shuffled = np.random.default_rng(seed).permutation(train)
    # The first image of each class, then the second of each class, and so on.
    rank = np.empty(len(shuffled), np.int64)
    for target in range(len(plan.class_names)):
        members = plan.targets[shuffled] == target
        rank[members] = np.arange(members.sum())
    chosen = shuffled[np.lexsort((plan.targets[shuffled], rank))][:images]
    chosen = chosen[np.argsort(plan.targets[chosen], kind="stable")]
    originals = plan.dataset.pixels(chosen)
    augment = Augmentation(config)
    augmented = []
    for repeat in range(repeats):
        changed = np.asarray(augment(originals, training=True, seed=[seed, repeat]))
        augmented.append(np.clip(np.rint(changed), 0, 255).astype(np.uint8))
    draw_preview(originals, augmented, [plan.class_names[target] for target in plan.targets[chosen]], path)
