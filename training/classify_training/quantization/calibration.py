"""What 8-bit integers need to know of activations: their ranges, and their means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_training.data.batches import track_batches
from classify_training.model.classifier import Classifier
from classify_training.model.stages import convolutions

_BATCH: Final = 8
_LEVELS: Final = 255
_OCTAVES: Final = (-24.0, 24.0)
"""Exponents of 2 between which activations are counted."""
_BINS: Final = 4096
"""A bin is 0.8% wide."""


@dataclass(frozen=True)
class Calibration:
    """Activations of each convolution, on some images.

    Attributes:
        ranges: of its outputs: which value the largest integer should stand for.
        input_means: float32 [I], mean of each channel of its inputs; of the first one, preprocessed pixels.
    """

    ranges: Sequence[float]
    input_means: Sequence[NDArray[np.float32]]


def calibrate(classifier: Classifier, images: NDArray[np.uint8], quiet: bool) -> Calibration:
    """Look at the activations of a classifier on some images.

    Args:
        classifier: the model; its convolutions end in ReLU.
        images: uint8 [N,S,S,3] RGB; a few hundred training images.
        quiet: whether to show no progress.

    Raises:
        Interrupted: a signal arrived.
    """
    layers = convolutions(classifier.backbone)
    inputs, outputs = [layer.input for layer in layers], [layer.output for layer in layers]
    activations = keras.Model(classifier.backbone.inputs, [*inputs, *outputs])

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
    def look(batch: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        found = activations(classifier.network.preprocess(tf.cast(batch, tf.float32)))
        sums = [tf.reduce_sum(tf.reduce_mean(each, axis=(1, 2)), axis=0) for each in found[: len(layers)]]
        return sums, [_count(each) for each in found[len(layers) :]]

    counts = np.zeros((len(layers), _BINS), np.int64)
    sums = [np.zeros(each.shape[-1]) for each in inputs]
    for batch in track_batches(images, _BATCH, "Calibrating", quiet):
        batch_sums, batch_counts = look(batch)
        counts += np.stack([each.numpy() for each in batch_counts])
        for total, each in zip(sums, batch_sums, strict=True):
            total += each.numpy()
    means = [(total / len(images)).astype(np.float32) for total in sums]
    return Calibration([best_range(each) for each in counts], means)


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
