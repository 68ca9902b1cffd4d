"""What the program must know of a convolutional network to fine-tune it, explain it and serve it.

A second network is one more module that defines a `Backbone`, as `vgg16.py` does. Nothing here imports Keras, so that
options can be declared from a `Backbone` without loading TensorFlow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import keras

_SMALLEST_MAP: Final = 7


@dataclass(frozen=True)
class Stage:
    """A group of layers that is frozen or trained as a whole.

    Attributes:
        name: what the option `--unfreeze` calls it.
        output: name of its last layer.
        explained: name of its last convolution, whose feature map Grad-CAM can explain.
        downsampling: pixels of the image that one place of that feature map stands for, in each direction.
    """

    name: str
    output: str
    explained: str
    downsampling: int


@dataclass(frozen=True)
class Backbone:
    """A convolutional network without its classification layers.

    Attributes:
        name: of the network.
        build: (side of the images in pixels, weights, seed) -> Keras model on preprocessed images. Weights are
            `imagenet`, `random` or a path to a file; raises WeightsError if they cannot be downloaded, read or used.
        preprocess: float32 [N,S,S,3] RGB in 0-255 -> the network's input; takes arrays and tensors.
        stages: from the image to the features.
        minimum_size: smallest side of an image in pixels.
        fine_tuned_from: name of the stage from which on a pretrained network is fine-tuned when its last stage is not
            enough: what the stages before find, such as edges and colours, is of use in any image.
    """

    name: str
    build: "Callable[[int, str, int], keras.Model]"
    preprocess: Callable[[Any], Any]
    stages: tuple[Stage, ...]
    minimum_size: int
    fine_tuned_from: str

    @property
    def head(self) -> int:
        """Number of the classification head, which comes after the stages 1, 2, ..."""
        return len(self.stages) + 1

    @property
    def unfreeze_choices(self) -> tuple[str, ...]:
        """Values of the option `--unfreeze`, from the fewest trained layers to all."""
        return ("none", *(stage.name for stage in reversed(self.stages[1:])), "all")

    def first_trained_stage(self, unfreeze: str) -> int:
        """Number of the first stage that is trained, from 1; `head` if none is.

        Args:
            unfreeze: one of `unfreeze_choices`.
        """
        if unfreeze == "none":
            return self.head
        return 1 if unfreeze == "all" else 1 + [stage.name for stage in self.stages].index(unfreeze)

    def explained_layer(self, size: int) -> str:
        """Name of the convolution that Grad-CAM explains: the last whose map is at least 7 x 7.

        Selvaraju et al. (2017) take the last convolution. Its map is 14 x 14 for VGG16 at 224 px; at 32 px it is
        2 x 2, too coarse to show where something is.

        Args:
            size: side of the images in pixels, at least `minimum_size`.
        """
        fine_enough = [stage for stage in self.stages if size // stage.downsampling >= _SMALLEST_MAP]
        return fine_enough[-1].explained
