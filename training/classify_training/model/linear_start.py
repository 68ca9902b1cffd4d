"""A head that begins as a linear classifier: before its first step, the model answers as logistic regression does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_training.model.classifier import Classifier
from classify_training.model.stages import mean_stages

_SHARE: Final = 0.5
"""Largest share of the embedding's units that compute the linear function; the others are free for anything else."""


@dataclass(frozen=True)
class LinearClassifier:
    """Logits that are linear in the mean features of some stages.

    Attributes:
        coefficients: name of a stage with c channels -> float32 [c,C].
        intercept: float32 [C].
    """

    coefficients: Mapping[str, NDArray[np.float32]]
    intercept: NDArray[np.float32]


def start_from_linear(classifier: Classifier, linear: LinearClassifier, shift: NDArray[np.float32]) -> bool:
    """Set the head's weights so that its logits are those of a linear classifier.

    For each class, some pairs of units compute the positive and the negative part of its logit, and the output layer
    adds the first ones and subtracts the second ones. The remaining units keep their random weights, and the output
    layer begins to use them as it learns.

    Args:
        classifier: whose head standardises its inputs, with statistics already set.
        linear: the linear classifier, on stages that the head takes.
        shift: float32 [C], added to the logits.

    Returns:
        Whether there are enough units for that.
    """
    head = classifier.head
    embedding, logits = head.get_layer("embedding"), head.get_layer("logits")
    units, classes = logits.kernel.shape
    pairs = int(_SHARE * units) // (2 * classes)
    layer = classifier.standardisation
    if not pairs or layer is None:
        return False
    mean, variance = layer.get_weights()
    weights = _on_features(classifier, linear)
    scaled = weights * np.sqrt(variance + layer.epsilon)[:, None]
    constant = linear.intercept + shift + mean @ weights
    kernel, bias = embedding.get_weights()
    output = np.zeros((units, classes), np.float32)
    for sign in (1, -1):
        for pair in range(pairs):
            begin = ((sign < 0) * pairs + pair) * classes
            kernel[:, begin : begin + classes] = sign * scaled
            bias[begin : begin + classes] = sign * constant
            output[begin : begin + classes] = sign * np.eye(classes) / pairs
    embedding.set_weights([kernel, bias])
    logits.set_weights([output, np.zeros(classes, np.float32)])
    return True


def _on_features(classifier: Classifier, linear: LinearClassifier) -> NDArray[np.float32]:
    """The coefficients for each of the D features that the head takes, float32 [D,C]."""
    stages, backbone = classifier.network.stages, classifier.backbone
    channels, classes = backbone.output_shape[-1], len(linear.intercept)
    parts = []
    for number in mean_stages(classifier.network, classifier.head_features):
        stage = stages[number - 1]
        width = backbone.get_layer(stage.output).output.shape[-1]
        parts.append(linear.coefficients.get(stage.name, np.zeros((width, classes), np.float32)))
    # The mean over places is linear too: each place has its share.
    places = int(np.prod(backbone.output_shape[1:])) // channels
    parts.append(np.tile(linear.coefficients[stages[-1].name] / places, (places, 1)))
    return np.concatenate(parts)
