"""VGG16 (Simonyan and Zisserman, 2014) as a backbone."""

from typing import TYPE_CHECKING, Any, Final

from classify_training.config import check_weights
from classify_training.errors import WeightsError
from classify_training.model.backbone import Backbone, Stage

if TYPE_CHECKING:
    import keras

_PIXEL_DEVIATION: Final = 64.0


def _build(size: int, weights: str, seed: int) -> "keras.Model":
    from keras import applications

    shape = (size, size, 3)
    if weights == "random":
        return _he_initialised(applications.VGG16(include_top=False, weights=None, input_shape=shape), seed)
    check_weights(weights)
    try:
        return applications.VGG16(include_top=False, weights=weights, input_shape=shape)
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


def _he_initialised(model: "keras.Model", seed: int) -> "keras.Model":
    """Random kernels that keep the signal's variance at 1 through all layers (He et al., 2015).

    Without that, 13 layers of ReLU hardly begin to learn. The formula assumes inputs of variance 1; preprocessed
    pixels have a standard deviation of about 64, by which the first kernel is divided.
    """
    from keras.initializers import HeNormal
    from keras.layers import Conv2D

    for position, layer in enumerate(model.layers):
        if isinstance(layer, Conv2D):
            layer.kernel.assign(HeNormal(seed + position)(layer.kernel.shape))
    first = model.get_layer("block1_conv1").kernel
    first.assign(first / _PIXEL_DEVIATION)
    return model


def _preprocess(images: Any) -> Any:
    """RGB -> BGR, less ImageNet's mean colour; float32 [N,S,S,3]."""
    from keras.applications.vgg16 import preprocess_input

    return preprocess_input(images)


VGG16: Final = Backbone(
    name="VGG16",
    build=_build,
    preprocess=_preprocess,
    stages=(
        Stage("block1", "block1_pool", "block1_conv2", 1),
        Stage("block2", "block2_pool", "block2_conv2", 2),
        Stage("block3", "block3_pool", "block3_conv3", 4),
        Stage("block4", "block4_pool", "block4_conv3", 8),
        Stage("block5", "block5_pool", "block5_conv3", 16),
    ),
    # Each stage halves the image.
    minimum_size=32,
    # Measured in docs/benchmarks.md.
    fine_tuned_from="block3",
)
