"""VGG16 without its top, and the head that is trained on it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import keras
import numpy as np

from classify_serving.contract.model import EMBEDDING_WIDTH
from classify_training.config import OutputInit, Unfreeze, check_weights
from classify_training.errors import WeightsError

HEAD: Final = 6
"""The head's place after the five blocks of convolutions."""

_BLOCKS: Final = 5
_SMALLEST_MAP: Final = 7
_PIXEL_DEVIATION: Final = 64.0
_OUTPUT_INITS: Final[Mapping[OutputInit, type[keras.initializers.Initializer]]] = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "random_uniform": keras.initializers.RandomUniform,
}


@dataclass(frozen=True)
class Classifier:
    """The model and the parts of it that have a use of their own; they share their layers.

    Attributes:
        model: float32 [N,S,S,3] RGB in 0-255 -> float32 [N,C] logits.
        backbone: VGG16's convolutions, on images already preprocessed.
        head: feature maps of the backbone -> logits.
    """

    model: keras.Model
    backbone: keras.Model
    head: keras.Sequential


def build_classifier(
    classes: int,
    size: int,
    weights: str,
    *,
    dropout: float = 0.5,
    output_init: OutputInit = "glorot_uniform",
    policy: str = "float32",
    seed: int = 1,
) -> Classifier:
    """VGG16 (Simonyan and Zisserman, 2014) + Flatten + Dense 512 ReLU + Dropout + one logit a class.

    VGG16's own preprocessing (BGR, ImageNet's mean subtracted) is inside. The 512-wide layer is named
    `embedding`. Variables and logits are float32 whatever the policy.

    Args:
        classes: number of outputs C.
        size: side S of the images in pixels, at least 32.
        weights: `imagenet`, `random` (He et al., 2015: without it, 13 layers of ReLU hardly begin to learn),
            or a path to an HDF5 file of `VGG16(include_top=False)`.
        dropout: fraction of the embedding dropped while training.
        output_init: how the output layer is initialised.
        policy: Keras' dtype policy of the layers.
        seed: of random weights and dropout.

    Raises:
        WeightsError: they cannot be downloaded or read, or do not fit VGG16.
    """
    with _policy(policy):
        backbone = _backbone(size, weights, seed)
        head = keras.Sequential(
            [
                keras.Input(backbone.output_shape[1:]),
                keras.layers.Flatten(),
                keras.layers.Dense(
                    EMBEDDING_WIDTH,
                    activation="relu",
                    kernel_initializer=keras.initializers.HeNormal(seed),
                    name="embedding",
                ),
                keras.layers.Dropout(dropout, seed=seed, name="dropout"),
                keras.layers.Dense(
                    classes, kernel_initializer=_OUTPUT_INITS[output_init](seed=seed), dtype="float32", name="logits"
                ),
            ],
            name="head",
        )
        images = keras.Input((size, size, 3), name="images", dtype="float32")
        preprocessed = keras.applications.vgg16.preprocess_input(images)
        return Classifier(keras.Model(images, head(backbone(preprocessed))), backbone, head)


def reseed_dropout(classifier: Classifier, seed: Sequence[int]) -> None:
    """Start dropout's draws anew; equal numbers give equal draws."""
    state = classifier.head.get_layer("dropout").seed_generator.state
    state.assign(np.random.SeedSequence(seed).generate_state(2, np.uint32).astype(state.dtype))


def in_float32(classifier: Classifier) -> Classifier:
    """A classifier of the same weights that computes in float32, whatever it was trained in."""
    (classes,), size = classifier.model.output_shape[1:], classifier.model.input_shape[1]
    twin = build_classifier(classes, size, "random")
    twin.model.set_weights(classifier.model.get_weights())
    return twin


@contextmanager
def _policy(name: str) -> Iterator[None]:
    # Keras' own VGG16 takes no policy as an argument.
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _backbone(size: int, weights: str, seed: int) -> keras.Model:
    shape = (size, size, 3)
    if weights == "random":
        return _he_initialised(keras.applications.VGG16(include_top=False, weights=None, input_shape=shape), seed)
    check_weights(weights)
    try:
        return keras.applications.VGG16(include_top=False, weights=weights, input_shape=shape)
    except Exception as error:
        # Keras raises bare Exception for a failed download and several kinds for a file that does not fit.
        if weights == "imagenet":
            raise WeightsError(
                "the ImageNet weights of VGG16 cannot be downloaded from Keras' host and are not in its cache"
                " (~/.keras/models): connect to the internet once, or give --weights PATH to a file of"
                " VGG16(include_top=False) weights, or --weights random to start from none"
            ) from error
        raise WeightsError(
            f"{weights} does not hold weights of VGG16(include_top=False): give such a file, or --weights"
            " imagenet or random"
        ) from error


def _he_initialised(backbone: keras.Model, seed: int) -> keras.Model:
    """Random kernels that keep the signal's variance at 1 through all layers, as He et al. (2015) ask for.

    They assume inputs of variance 1; preprocessed pixels have a deviation of about 64, which the first
    kernel takes out.
    """
    for position, layer in enumerate(backbone.layers):
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(keras.initializers.HeNormal(seed + position)(layer.kernel.shape))
    first = backbone.get_layer("block1_conv1").kernel
    first.assign(first / _PIXEL_DEVIATION)
    return backbone


def first_trained_block(unfreeze: Unfreeze) -> int:
    """Number of the first trainable block, 1 to 5; `HEAD` if none is."""
    return {"all": 1, "none": HEAD}.get(unfreeze) or int(unfreeze.removeprefix("block"))


def set_trainable(backbone: keras.Model, unfreeze: Unfreeze) -> None:
    """Make the convolutions from a block on trainable, and freeze those before."""
    backbone.trainable = True
    for layer in backbone.layers:
        layer.trainable = _block_of(layer) >= first_trained_block(unfreeze)


def section(classifier: Classifier, first: int, beyond: int) -> keras.Model:
    """Blocks `first` to `beyond` - 1 as a model; it shares its layers with the classifier.

    From block 1 it takes images, float32 [N,S,S,3] RGB in 0-255, otherwise what the block before gives. It gives the
    last block's features in the policy's compute dtype, or with `beyond` 7 the head's logits.
    """
    blocks = [layer for layer in classifier.backbone.layers if first <= _block_of(layer) < beyond]
    if first == 1:
        inputs = keras.Input(classifier.model.input_shape[1:], dtype="float32")
        outputs = keras.applications.vgg16.preprocess_input(inputs)
    else:
        border = classifier.backbone.get_layer(f"block{first - 1}_pool").output
        inputs = outputs = keras.Input(border.shape[1:], dtype=border.dtype)
    for layer in blocks:
        outputs = layer(outputs)
    return keras.Model(inputs, classifier.head(outputs) if beyond > HEAD else outputs)


def _block_of(layer: keras.layers.Layer) -> int:
    """1 to 5 for a layer of a block, 0 for the input."""
    return int(layer.name[len("block")]) if layer.name.startswith("block") else 0


def explained_layer(size: int) -> str:
    """Name of the convolution that Grad-CAM explains: the last whose map is at least 7 x 7.

    Selvaraju et al. (2017) take the last convolution, whose map is 14 x 14 for VGG16 at 224 px; at 32 px that
    map is 2 x 2 and says nothing about places.
    """
    block = max(block for block in range(1, _BLOCKS + 1) if size >> (block - 1) >= _SMALLEST_MAP)
    return f"block{block}_conv{2 if block <= 2 else 3}"
