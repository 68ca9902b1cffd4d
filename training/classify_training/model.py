"""VGG16 without its top, and the head that is trained on it."""

from dataclasses import dataclass
from typing import Final

import keras

from classify_serving.contract import EMBEDDING_WIDTH
from classify_training.config import check_weights
from classify_training.errors import WeightsError

_BLOCKS: Final = 5
_SMALLEST_MAP: Final = 7
_PIXEL_DEVIATION: Final = 64.0


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


def build_classifier(classes: int, size: int, weights: str, dropout: float = 0.5, seed: int = 1) -> Classifier:
    """VGG16 (Simonyan and Zisserman, 2014) + Flatten + Dense 512 ReLU + Dropout + one logit a class.

    VGG16's own preprocessing (BGR, ImageNet's mean subtracted) is inside. The 512-wide layer is named
    `embedding`.

    Args:
        classes: number of outputs C.
        size: side S of the images in pixels, at least 32.
        weights: `imagenet`, `random` (He et al., 2015: without it, 13 layers of ReLU hardly begin to learn),
            or a path to an HDF5 file of `VGG16(include_top=False)`.
        dropout: fraction of the embedding dropped while training.
        seed: of random weights and dropout.

    Raises:
        WeightsError: they cannot be downloaded or read, or do not fit VGG16.
    """
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
            keras.layers.Dropout(dropout, seed=seed),
            keras.layers.Dense(
                classes, kernel_initializer=keras.initializers.GlorotUniform(seed), dtype="float32", name="logits"
            ),
        ],
        name="head",
    )
    images = keras.Input((size, size, 3), name="images")
    preprocessed = keras.applications.vgg16.preprocess_input(images)
    return Classifier(keras.Model(images, head(backbone(preprocessed))), backbone, head)


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


def unfreeze(backbone: keras.Model, from_block: str) -> None:
    """Make the convolutions from a block on trainable: `block1` ... `block5`, `all`, or `none`."""
    first = {"all": 1, "none": _BLOCKS + 1}.get(from_block) or int(from_block.removeprefix("block"))
    backbone.trainable = True
    for layer in backbone.layers:
        layer.trainable = layer.name.startswith("block") and int(layer.name[len("block")]) >= first


def explained_layer(size: int) -> str:
    """Name of the convolution that Grad-CAM explains: the last whose map is at least 7 x 7.

    Selvaraju et al. (2017) take the last convolution, whose map is 14 x 14 for VGG16 at 224 px; at 32 px that
    map is 2 x 2 and says nothing about places.
    """
    block = max(block for block in range(1, _BLOCKS + 1) if size >> (block - 1) >= _SMALLEST_MAP)
    return f"block{block}_conv{2 if block <= 2 else 3}"
