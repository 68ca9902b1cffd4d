"""Scaling a network to unit variance on training images, so that learning rates do not depend on its weights.

Pretrained weights differ: feature maps of one network have values of hundreds, those of another below one, and a
learning rate that suits the one does nothing or everything to the other.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from classify_training.data.batches import batches
from classify_training.data.dataset import Dataset
from classify_training.model.classifier import Classifier, in_float32
from classify_training.model.stages import convolutions, mean_stages

_BATCH: Final = 16
_SCALING_IMAGES: Final = 64
_FLOOR: Final = 0.1
"""Added to each variance, as a fraction of the mean variance: a feature that is nearly constant on the training images
is not blown up on others."""


def scale_convolutions(classifier: Classifier, images: NDArray[np.uint8]) -> None:
    """Scale each convolution so that the root mean square of its outputs is 1 on some images.

    A network of convolutions, ReLU and max pooling, as VGG16, is positively homogeneous in the weights of each layer:
    what one layer is scaled by, the next one divides out, and the function stays the same but for one factor at the
    end, which `standardise_head` removes. (Mishkin and Matas, "All you need is a good init", 2016, set the scales of
    random layers in this way.)

    Args:
        classifier: the model.
        images: uint8 [N,S,S,3] RGB, N >= 1.
    """
    backbone = classifier.backbone
    # Before they are scaled, feature maps may have values beyond the range of float16.
    measured = in_float32(classifier).backbone if backbone.output.dtype == "float16" else backbone
    outputs = [keras.ops.cast(layer.output, "float32") for layer in convolutions(measured)]
    squares = [keras.ops.mean(keras.ops.square(each), (1, 2, 3)) for each in outputs]
    model = keras.Model(measured.inputs, squares)
    found = [model.predict_on_batch(inputs) for inputs in _preprocessed(classifier, images)]
    sizes = np.sqrt(np.concatenate([np.stack(each) for each in found], axis=1).astype(np.float64).mean(axis=1))
    before = 1.0
    for layer, size in zip(convolutions(backbone), sizes.tolist(), strict=True):
        # A layer that is 0 on all images stays as it is.
        after = size if size > 0 else before
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel * (before / after), bias / after])
        before = after


def scale_to_some(classifier: Classifier, dataset: Dataset, examples: NDArray[np.int64], seed: int) -> None:
    """Scale each convolution on some of these examples, int64, which are chosen at random with a seed."""
    some = np.random.default_rng(seed).permutation(examples)[:_SCALING_IMAGES]
    scale_convolutions(classifier, dataset.pixels(np.sort(some)))


def _preprocessed(classifier: Classifier, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    for batch in batches(images, _BATCH):
        yield np.asarray(classifier.network.preprocess(batch.astype(np.float32)))


def standardise_head(
    classifier: Classifier, means: Mapping[str, NDArray[np.float32]], squares: NDArray[np.float32]
) -> None:
    """Set the statistics of the layer that standardises the features, if the classifier has one.

    All places of the last feature map share the mean and variance of their channel, as in batch normalisation (Ioffe
    and Szegedy, 2015).

    Args:
        classifier: the model.
        means: name of each of the last stages -> float32 [N,c], mean features of N >= 1 training images.
        squares: float32 [N,c], means of the squares of the last stage's features.
    """
    layer = classifier.standardisation
    if layer is None:
        return
    stages = classifier.network.stages
    earlier = [means[stages[number - 1].name] for number in mean_stages(classifier.network, classifier.head_features)]
    mapped = means[stages[-1].name].mean(axis=0, dtype=np.float64)
    spread = np.maximum(squares.mean(axis=0, dtype=np.float64) - mapped**2, 0)
    places = int(np.prod(classifier.backbone.output_shape[1:3]))
    mean = np.concatenate([*(each.mean(axis=0) for each in earlier), np.tile(mapped, places)])
    variance = np.concatenate([*(each.var(axis=0) for each in earlier), np.tile(spread, places)])
    layer.set_weights([mean, variance + _FLOOR * variance.mean()])
