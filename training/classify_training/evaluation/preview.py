"""A figure of random augmentations of a dataset's own images."""

from pathlib import Path

import numpy as np

from classify_training.config import AugmentConfig
from classify_training.data.balance import choose_in_turns
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
    chosen = choose_in_turns(plan.indices("train"), plan.targets, images, np.random.default_rng(seed))
    chosen = chosen[np.argsort(plan.targets[chosen], kind="stable")]
    originals = plan.dataset.pixels(chosen)
    augment = Augmentation(config)
    augmented = []
    for repeat in range(repeats):
        changed = np.asarray(augment(originals, training=True, seed=[seed, repeat]))
        augmented.append(np.clip(np.rint(changed), 0, 255).astype(np.uint8))
    draw_preview(originals, augmented, [plan.class_names[target] for target in plan.targets[chosen]], path)
