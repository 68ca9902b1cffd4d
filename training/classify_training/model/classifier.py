"""The model that is trained: a backbone and a classification head."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np

from classify_serving.contract.model import EMBEDDING_WIDTH
from classify_training.config import HeadFeatures, OutputInit
from classify_training.model.backbone import Backbone
from classify_training.model.stages import backbone_features, handed_on_width, stages_as_model
from classify_training.model.vgg16 import VGG16

_OUTPUT_INITS: Final[Mapping[OutputInit, type[keras.initializers.Initializer]]] = {
    "zeros": keras.initializers.Zeros,
    "glorot_uniform": keras.initializers.GlorotUniform,
    "random_uniform": keras.initializers.RandomUniform,
}


@dataclass(frozen=True)
class Classifier:
    """The model and its parts, which share their layers.

    Attributes:
        model: float32 [N,S,S,3] RGB in 0-255 -> float32 [N,C] logits.
        backbone: preprocessed images -> last feature map.
        features: preprocessed images -> [N,D], what the head takes.
        head: features -> logits.
        head_features: which features these are.
        network: facts about the backbone.
    """

    model: keras.Model
    backbone: keras.Model
    features: keras.Model
    head: keras.Sequential
    head_features: HeadFeatures
    network: Backbone = VGG16

    @property
    def embedding(self) -> keras.Model:
        """Features, [N,D] -> float32 [N,512], the layer before dropout and logits."""
        return keras.Model(self.head.inputs, self.head.get_layer("embedding").output)

    def on_images(self, of_preprocessed: Callable[[Any], Any]) -> keras.Model:
        """What is computed from preprocessed images as a model of images, float32 [N,S,S,3] RGB in 0-255."""
        images = keras.Input(self.model.input_shape[1:], dtype="float32")
        return keras.Model(images, of_preprocessed(self.network.preprocess(images)))

    def stages(self, first: int, beyond: int) -> keras.Model:
        """Stages `first` to `beyond` - 1 as a model that shares its layers with this one; see `stages_as_model`."""
        # The policy of a model decides whether its loss is scaled, as float16 needs it.
        with _policy(self.model.dtype_policy.name):
            return stages_as_model(self.network, self.backbone, self.head, self.head_features, first, beyond)

    def width(self, stage: int) -> int:
        """Length of the vectors that a stage, from 1, hands on to the next one."""
        return handed_on_width(self.network, self.backbone, self.head_features, stage)

    @property
    def standardisation(self) -> keras.layers.BatchNormalization | None:
        """The first layer of the head, if it standardises the features: its statistics stay as they are set."""
        first = self.head.layers[0]
        return first if isinstance(first, keras.layers.BatchNormalization) else None


def build_classifier(
    classes: int,
    size: int,
    weights: str,
    *,
    network: Backbone = VGG16,
    head_features: HeadFeatures = "multi-level",
    standardise: bool = True,
    dropout: float = 0.5,
    output_init: OutputInit = "zeros",
    policy: str = "float32",
    seed: int = 1,
) -> Classifier:
    """Build backbone + Flatten + Dense 512 ReLU + Dropout + one logit for each class.

    The backbone's preprocessing is inside the model. The 512-wide layer is named `embedding`. Variables and logits
    are float32 whatever the policy.

    Args:
        classes: number of outputs C.
        size: side S of the images in pixels, at least the backbone's minimum.
        weights: of the backbone: `imagenet`, `random`, or a path to a file.
        network: the backbone.
        head_features: `last` is the flattened last feature map; otherwise the mean features of the two stages before
            are added (as in hypercolumns, Hariharan et al., 2015): those of a network that was trained on other
            pictures often tell more about these ones than its last stage.
        standardise: begin the head with a layer that standardises the features, once its statistics are set.
        dropout: fraction of the embedding dropped while training.
        output_init: how the output layer is initialised.
        policy: Keras' dtype policy of the layers.
        seed: of random weights and dropout.

    Raises:
        WeightsError: the weights cannot be downloaded or read, or do not fit the backbone.
    """
    with _policy(policy):
        backbone = network.build(size, weights, seed)
    return add_head(
        network,
        backbone,
        classes,
        head_features=head_features,
        standardise=standardise,
        dropout=dropout,
        output_init=output_init,
        policy=policy,
        seed=seed,
    )


def add_head(
    network: Backbone,
    backbone: keras.Model,
    classes: int,
    *,
    head_features: HeadFeatures,
    standardise: bool,
    dropout: float = 0.5,
    output_init: OutputInit = "zeros",
    policy: str = "float32",
    seed: int = 1,
) -> Classifier:
    """Build a classifier on a backbone that exists; arguments as of `build_classifier`."""
    with _policy(policy):
        features = backbone_features(network, backbone, head_features)
        head = _head(features.output_shape[1], classes, standardise, dropout, output_init, seed)
        images = keras.Input(backbone.input_shape[1:], name="images", dtype="float32")
        model = keras.Model(images, head(features(network.preprocess(images))))
        return Classifier(model, backbone, features, head, head_features, network)


def _head(
    width: int, classes: int, standardise: bool, dropout: float, output_init: OutputInit, seed: int
) -> keras.Sequential:
    """The layers after the backbone, for `width` features."""
    initializer = _OUTPUT_INITS[output_init]
    logits = initializer() if output_init == "zeros" else initializer(seed=seed)
    return keras.Sequential(
        [
            keras.Input((width,)),
            *([keras.layers.BatchNormalization(center=False, scale=False, trainable=False)] if standardise else []),
            keras.layers.Dense(
                EMBEDDING_WIDTH,
                activation="relu",
                kernel_initializer=keras.initializers.HeNormal(seed),
                name="embedding",
            ),
            keras.layers.Dropout(dropout, seed=seed, name="dropout"),
            keras.layers.Dense(classes, kernel_initializer=logits, dtype="float32", name="logits"),
        ],
        name="head",
    )


@contextmanager
def _policy(name: str) -> Iterator[None]:
    # Keras' own networks take no policy as an argument.
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def in_float32(classifier: Classifier) -> Classifier:
    """Build a classifier of the same weights that computes in float32, whatever it was trained in."""
    (classes,), size = classifier.model.output_shape[1:], classifier.model.input_shape[1]
    copy = build_classifier(
        classes,
        size,
        "random",
        network=classifier.network,
        head_features=classifier.head_features,
        standardise=classifier.standardisation is not None,
    )
    copy.model.set_weights(classifier.model.get_weights())
    return copy


def reseed_dropout(classifier: Classifier, seed: Sequence[int]) -> None:
    """Set the state of dropout's random generator; equal numbers give equal draws."""
    state = classifier.head.get_layer("dropout").seed_generator.state
    state.assign(np.random.SeedSequence(seed).generate_state(2, np.uint32).astype(state.dtype))


def set_trainable(classifier: Classifier, unfreeze: str) -> None:
    """Make the backbone trainable from a stage on, and freeze the stages before.

    Args:
        classifier: the model.
        unfreeze: one of the backbone's `unfreeze_choices`.
    """
    first, number = classifier.network.first_trained_stage(unfreeze), 1
    ends = {stage.output for stage in classifier.network.stages}
    classifier.backbone.trainable = True
    for layer in classifier.backbone.layers:
        layer.trainable = number >= first
        number += layer.name in ends
