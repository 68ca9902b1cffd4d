"""Ranges of activations: which value the largest 8-bit integer stands for, in each layer."""

from collections.abc import Sequence
from typing import Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_training.data.batches import track_batches
from classify_training.model.classifier import Classifier

_BATCH: Final = 8
_LEVELS: Final = 255
_OCTAVES: Final = (-24.0, 24.0)
"""Exponents of 2 between which activations are counted."""
_BINS: Final = 4096
"""A bin is 0.8% wide."""


def convolutions(backbone: keras.Model) -> list[keras.layers.Conv2D]:
    """The convolutions of a network, in order."""
    return [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]


def activation_ranges(classifier: Classifier, images: NDArray[np.uint8], quiet: bool) -> list[float]:
    """The best range of the output of each convolution, on some images.

    Args:
        classifier: the model; its convolutions end in ReLU.
        images: uint8 [N,S,S,3] RGB; a few hundred training images.
        quiet: whether to show no progress.

    Raises:
        Interrupted: a signal arrived.
    """
    outputs = [layer.output for layer in convolutions(classifier.backbone)]
    layers = keras.Model(classifier.backbone.inputs, outputs)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
    def count(batch: tf.Tensor) -> list[tf.Tensor]:
        activations = layers(classifier.network.preprocess(tf.cast(batch, tf.float32)))
        return [_count(each) for each in (activations if len(outputs) > 1 else [activations])]

    counts = np.zeros((len(outputs), _BINS), np.int64)
    for batch in track_batches(images, _BATCH, "Calibrating", quiet):
        counts += np.stack([each.numpy() for each in count(batch)])
    return [best_range(each) for each in counts]


def _count(activations: tf.Tensor) -> tf.Tensor:
    """How many activations are in each bin; those of 0 are exact with any range, and not counted."""
    exponents = tf.math.log(tf.reshape(activations, [-1])) / tf.math.log(2.0)
    low, high = _OCTAVES
    inside = tf.boolean_mask(exponents, exponents > low)
    return tf.histogram_fixed_width(inside, [low, high], _BINS)


def bin_centres() -> NDArray[np.float64]:
    """The activation in the middle of each bin, float64 [_BINS]."""
    low, high = _OCTAVES
    centres: NDArray[np.float64] = 2.0 ** (low + (high - low) * (np.arange(_BINS) + 0.5) / _BINS)
    return centres


def best_range(counts: Sequence[int] | NDArray[np.int64]) -> float:
    """The range with the smallest sum of squared errors by rounding and by clipping; 1 if nothing was counted.

    (Nagel et al., "A White Paper on Neural Network Quantization", 2021, section 3.1, "MSE".)

    Args:
        counts: of activations in each bin.
    """
    counts, centres = np.asarray(counts, np.float64), bin_centres()
    seen = np.flatnonzero(counts)
    if not len(seen):
        return 1.0
    counts, centres = counts[seen], centres[seen]
    errors = []
    for limit in centres:
        step = limit / _LEVELS
        # Below half a step, a value becomes 0; else its error is anything up to half a step.
        rounding = np.where(centres < step / 2, centres**2, step**2 / 12)
        errors.append(float((counts * np.where(centres > limit, (centres - limit) ** 2, rounding)).sum()))
    return float(centres[int(np.argmin(errors))])
