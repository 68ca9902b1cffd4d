"""Classifiers and images for tests of training."""

from pathlib import Path

import numpy as np
from PIL import Image

from classify_training.config import TrainConfig
from classify_training.data.plan import Plan
from classify_training.model.classifier import Classifier, build_classifier


def build(plan: Plan, config: TrainConfig, policy: str = "float32") -> Classifier:
    return build_classifier(len(plan.class_names), 32, config.fit.weights, policy=policy)


def write_noisy(path: Path, colour: tuple[int, int, int], seed: int) -> Path:
    """An image of about one colour; no two are near-duplicates."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-60, 60, (8, 8, 1)).repeat(5, 0).repeat(5, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(colour) + coarse, 0, 255).astype(np.uint8)).save(path)
    return path
