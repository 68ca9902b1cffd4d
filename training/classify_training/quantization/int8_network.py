"""A trained classifier whose convolutions compute with 8-bit integers."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_training.errors import QuantizationError
from classify_training.model.classifier import Classifier
from classify_training.model.stages import mean_stages
from classify_training.quantization.calibration import Calibration
from classify_training.quantization.kernels import QuantizedKernel, quantize_kernel
from classify_training.quantization.operations import as_float, convolution, maximum_pooling, product

_PIXELS = 255.0


@dataclass(frozen=True)
class _Convolution:
    kernel: QuantizedKernel
    bias: NDArray[np.float32]
    output_range: float


@dataclass(frozen=True)
class _Layer:
    """One layer of the backbone; without a convolution it is a pooling."""

    name: str
    convolution: _Convolution | None = None


class Int8Network:
    """The network and the first layer of the head.

    The preprocessing becomes part of the first convolution, which takes pixels as they are. Its border is the colour
    that the preprocessing turns into 0, as nearly as 8 bits can state it. The layer that standardises features becomes
    part of the layer `embedding`. What the head takes of feature maps as means, it takes in float32. What rounding a
    kernel adds to each output on average is taken from its bias (Nagel et al., "Data-Free Quantization Through Weight
    Equalization and Bias Correction", 2019, section 4.2).

    Args:
        classifier: the model, in float32.
        calibration: its activations.

    Raises:
        QuantizationError: the network has layers that this cannot do.
    """

    def __init__(self, classifier: Classifier, calibration: Calibration) -> None:
        self._stages = [stage.output for stage in classifier.network.stages]
        self._means = [self._stages[number - 1] for number in mean_stages(classifier.network, classifier.head_features)]
        self._border = np.rint(np.clip(_zero(classifier), 0, _PIXELS)).astype(np.uint8)
        self._layers = list(_layers(classifier, calibration))
        kernel, self._bias = _embedding(classifier)
        side, _, channels = classifier.backbone.output_shape[1:]
        self._dense = kernel[: len(kernel) - side * side * channels]
        flat = kernel[len(self._dense) :].reshape(side, side, channels, -1)
        self._flat = quantize_kernel(flat)

    def embed(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 [N,S,S,3] RGB -> embeddings, float32 [N,512]."""
        # Pixels of 8 bits wrap around: the border becomes the colour that is taken away and added again.
        framed = tf.pad(images - self._border, [[0, 0], [1, 1], [1, 1], [0, 0]]) + self._border
        values, limit, padding = tf.bitcast(framed, tf.quint8), _PIXELS, "VALID"
        means = []
        for layer in self._layers:
            if layer.convolution:
                own = layer.convolution
                values = convolution(values, limit, own.kernel, own.bias, own.output_range, padding)
                limit, padding = own.output_range, "SAME"
            else:
                values = maximum_pooling(values, limit)
            if layer.name in self._means:
                means.append(tf.reduce_mean(as_float(values, limit), axis=(1, 2)))
        sums = product(values, limit, self._flat) + self._bias
        return tf.nn.relu(sums + tf.concat(means, axis=1) @ self._dense if means else sums)


def _of_pixels(
    kernel: NDArray[np.float32], means: NDArray[np.float32], classifier: Classifier
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A kernel for preprocessed images, and their means, as those for pixels less the colour that becomes zero."""
    matrix, _ = _preprocessing(classifier)
    of_pixels = np.einsum("ij,hwjo->hwio", matrix, kernel).astype(np.float32)
    return of_pixels, (means @ np.linalg.inv(matrix)).astype(np.float32)


def _zero(classifier: Classifier) -> NDArray[np.float64]:
    """The colour that the preprocessing turns into zeros, RGB in 0-255."""
    matrix, offset = _preprocessing(classifier)
    zero: NDArray[np.float64] = -offset @ np.linalg.inv(matrix)
    return zero


def _preprocessing(classifier: Classifier) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The preprocessing as a matrix, [3,3], and an offset, [3]: colours become colours @ matrix + offset."""
    probes = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32).reshape(4, 1, 1, 3)
    found = np.asarray(classifier.network.preprocess(probes.copy()), np.float64).reshape(4, 3)
    return found[1:] - found[0], found[0]


def _layers(classifier: Classifier, calibration: Calibration) -> Iterator[_Layer]:
    remaining = list(zip(calibration.ranges, calibration.input_means, strict=True))
    is_first = True
    for layer in classifier.backbone.layers:
        match layer:
            case keras.layers.InputLayer():
                continue
            case keras.layers.Conv2D(strides=(1, 1), padding="same", dilation_rate=(1, 1), groups=1):
                if layer.activation is not keras.activations.relu:
                    raise QuantizationError(f"the layer {layer.name} does not end in ReLU: int8 cannot compute it")
                output_range, means = remaining.pop(0)
                kernel, bias = layer.get_weights()
                if is_first:
                    kernel, means = _of_pixels(kernel, means, classifier)
                quantized = quantize_kernel(kernel)
                bias = bias - ((quantized.weights - kernel) * means[:, None]).sum(axis=(0, 1, 2))
                if is_first:
                    # With the rounded kernel, so that the colour of zero gives what zeros give.
                    bias = bias - (quantized.weights * _zero(classifier)[:, None]).sum(axis=(0, 1, 2))
                is_first = False
                yield _Layer(layer.name, _Convolution(quantized, bias.astype(np.float32), output_range))
            case keras.layers.MaxPooling2D(pool_size=(2, 2), strides=(2, 2), padding="valid"):
                yield _Layer(layer.name)
            case _:
                raise QuantizationError(f"int8 cannot compute the layer {layer.name} of this network")


def _embedding(classifier: Classifier) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel [D,512] and bias [512] of the layer `embedding`, which take features that are not standardised."""
    kernel, bias = (each.astype(np.float64) for each in classifier.head.get_layer("embedding").get_weights())
    if layer := classifier.standardisation:
        mean, variance = (each.astype(np.float64) for each in layer.get_weights())
        kernel /= np.sqrt(variance + layer.epsilon)[:, None]
        bias = bias - mean @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)
