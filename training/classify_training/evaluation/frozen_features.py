"""What the network computes before it is trained, of some of the training and test images."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from classify_training.data.balance import choose_in_turns
from classify_training.data.plan import Plan
from classify_training.evaluation.evaluate import run_on_examples
from classify_training.model.classifier import Classifier

MOST_TRAIN: Final = 1500
MOST_TEST: Final = 1000
"""Images that are used; more would take longer and say little more."""

_STAGES: Final = 3

Features = NDArray[np.float32]


@dataclass(frozen=True)
class FrozenFeatures:
    """What the network computes before it is trained.

    Attributes:
        train: int64 [N], training images.
        test: int64 [T], test images.
        others: int64 [O], further images of the dataset: all that there are, unless they are too many.
        means: name of each of the last stages -> float32 [N + T + O,c], mean features of these images, in this order.
        squares: float32 [N,c], means of the squares of the last stage's features of the training images.
        seconds: for one image.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    others: NDArray[np.int64]
    means: Mapping[str, Features]
    squares: Features
    seconds: float

    @property
    def examples(self) -> NDArray[np.int64]:
        """int64 [N + T + O], all of these images."""
        return np.concatenate([self.train, self.test, self.others])

    @property
    def train_means(self) -> dict[str, Features]:
        """The part of `means` that is of the training images."""
        return {name: means[: len(self.train)] for name, means in self.means.items()}


def compute_features(
    classifier: Classifier, plan: Plan, batch_size: int, seed: int, quiet: bool = False
) -> FrozenFeatures:
    """Run the network, before it is trained, on the images; on some of them if there are too many.

    Args:
        classifier: the model.
        plan: what is trained on.
        batch_size: images in one batch.
        seed: of the choice of images.
        quiet: whether to show no progress.

    Raises:
        Interrupted: a signal arrived.
    """
    rng = np.random.default_rng(seed)
    train = np.sort(choose_in_turns(plan.indices("train"), plan.targets, MOST_TRAIN, rng))
    test = np.sort(rng.permutation(plan.indices("test"))[:MOST_TEST])
    rest = np.setdiff1d(np.arange(len(plan.targets)), np.concatenate([train, test]))
    others = rest if len(plan.targets) <= MOST_TRAIN + MOST_TEST else rest[:0]
    stages, means = mean_features(classifier)
    last = keras.ops.square(keras.ops.cast(classifier.backbone.output, "float32"))
    found = [means, keras.ops.mean(last, axis=(1, 2))]
    model = classifier.on_images(keras.Model(classifier.backbone.inputs, keras.ops.concatenate(found, axis=1)))
    chosen = np.concatenate([train, test, others])
    # The first batch of each size takes longer, because the model is compiled for it.
    sizes = chosen[: batch_size + len(chosen) % batch_size]
    run_on_examples(model, plan.dataset, sizes, batch_size, "Preparing the network", quiet)
    start = time.monotonic()
    vectors = run_on_examples(model, plan.dataset, chosen, batch_size, "Features for the baseline", quiet)
    seconds = (time.monotonic() - start) / len(chosen)
    *by_stage, squares = np.split(vectors, np.cumsum(list(stages.values())), axis=1)
    return FrozenFeatures(train, test, others, dict(zip(stages, by_stage, strict=True)), squares[: len(train)], seconds)


def mean_features(classifier: Classifier) -> tuple[dict[str, int], keras.KerasTensor]:
    """The mean features of the backbone's last stages, as a function of the backbone's inputs.

    Returns:
        Name of each of these stages -> number of its features; and float32 [N,D], the features of one stage after the
        other.
    """
    network, backbone = classifier.network, classifier.backbone
    maps = {
        stage.name: keras.ops.cast(backbone.get_layer(stage.output).output, "float32")
        for stage in network.stages[-_STAGES:]
    }
    means = [keras.ops.mean(each, axis=(1, 2)) for each in maps.values()]
    return {name: each.shape[-1] for name, each in maps.items()}, keras.ops.concatenate(means, axis=1)
