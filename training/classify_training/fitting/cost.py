"""How much work the stages of a classifier are, counted in multiply-adds, and from that how long epochs will take."""

from typing import Final

import keras
import numpy as np

from classify_training.model.classifier import Classifier

_TRAINING: Final = 4.0
"""A training step computes the outputs, and the gradients of inputs and of weights: three times as many multiply-adds
as the outputs alone. With the optimiser it takes 3.5 to 4 times as long (measured on CPUs, 32 to 64 px)."""


def stage_costs(classifier: Classifier) -> list[float]:
    """Multiply-adds for one image in each stage of the backbone, and last in the head."""
    ends, costs = {stage.output for stage in classifier.network.stages}, [0.0]
    for layer in classifier.backbone.layers:
        if isinstance(layer, keras.layers.Conv2D):
            costs[-1] += float(np.prod(layer.output.shape[1:3])) * float(np.prod(layer.kernel.shape))
        if layer.name in ends:
            costs.append(0.0)
    costs[-1] = float(sum(np.prod(weight.shape) for weight in classifier.head.trainable_weights))
    return costs


def saved_share(classifier: Classifier, first: int) -> float:
    """The share of a training step's work, 0-1, that cached features save if the stages from `first` on are trained."""
    frozen, trained = _step_costs(classifier, first)
    return frozen / (frozen + trained)


def training_seconds(classifier: Classifier, first: int, forward: float, is_cached: bool) -> float:
    """Estimate the seconds of a training step for one image.

    Args:
        classifier: the model.
        first: number of the first stage that is trained.
        forward: seconds in which the backbone computes the features of one image.
        is_cached: whether the features of the frozen stages are cached.
    """
    frozen, trained = _step_costs(classifier, first)
    return forward * (trained + (0.0 if is_cached else frozen)) / sum(stage_costs(classifier)[:-1])


def _step_costs(classifier: Classifier, first: int) -> tuple[float, float]:
    """Work of a training step for one image in the frozen stages, and in those from `first` on, which are trained."""
    costs = stage_costs(classifier)
    return sum(costs[: first - 1]), _TRAINING * sum(costs[first - 1 :])
