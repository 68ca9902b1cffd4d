"""Input pipelines: what a phase is trained on, either images or cached features of the frozen layers."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_serving.contract.text import error_reason
from classify_training.config import TrainConfig
from classify_training.data.batches import batches
from classify_training.data.plan import Plan
from classify_training.errors import CacheError
from classify_training.fitting.batch_source import BatchSource
from classify_training.model.augmentation import Augmentation
from classify_training.model.classifier import Classifier, stages_as_model
from classify_training.progress import track

_FREE_SHARE: Final = 0.8
_MIN_AUGMENTATIONS: Final = 2
_log = logging.getLogger(__name__)


class InputPipeline(Protocol):
    """Batches for `model`, a Keras model with float32 [N,C] logits as output."""

    model: keras.Model

    def epoch(self, number: int) -> tf.data.Dataset:
        """Batches of one epoch: (inputs, float32 [B,C] one-hot targets, float32 [B] weights).

        Equal numbers give equal epochs.
        """

    def validation(self) -> tf.data.Dataset:
        """Batches of inputs of the validation split, without augmentation, in the order of `plan.indices("val")`."""


class ImagePipeline:
    """Images that are augmented anew in every epoch; all layers run in every step."""

    def __init__(self, classifier: Classifier, plan: Plan, config: TrainConfig) -> None:
        self.model = classifier.model
        self._plan, self._config = plan, config
        augment = Augmentation(config.augment)
        size = config.fit.batch_size
        pixels = plan.dataset.pixels
        self._train = BatchSource(plan, pixels, len(plan.epoch_examples), size, augment)
        self._val = BatchSource(plan, pixels, len(plan.indices("val")), size)

    def epoch(self, number: int) -> tf.data.Dataset:
        """Batches of one epoch; inputs are float32 [B,S,S,3] in 0-255."""
        indices = self._plan.epoch_examples[_order(self._plan, self._config, number)]
        return self._train.ordered(indices, indices, (self._config.data.seed, number))

    def validation(self) -> tf.data.Dataset:
        """Batches of the validation split; inputs are float32 [B,S,S,3] in 0-255."""
        indices = self._plan.indices("val")
        return self._val.ordered(indices, indices).map(lambda images, *_: tf.cast(images, tf.float32))


class FeaturePipeline:
    """Features of the frozen layers, computed once for some augmentations of each image and stored on disk.

    The result is the same as running the frozen layers in every epoch: they are convolutions, ReLU and pooling,
    without dropout or batch statistics, so their output depends on their input only, and it is stored in the number
    format in which it was computed. The difference is that augmentations repeat: with V cached augmentations, epoch e
    uses augmentation e modulo V of every image. If V is not less than the number of epochs, none repeats.

    Args:
        model: features -> logits.
        features: [V x M + validation, ...]: features of the M examples of an epoch for each augmentation in turn, then
            of the validation split.
        plan: what is trained on.
        config: the configuration.
    """

    def __init__(self, model: keras.Model, features: NDArray[Any], plan: Plan, config: TrainConfig) -> None:
        self.model, self.features = model, features
        self._plan, self._config = plan, config
        self._augmentations = (len(features) - len(plan.indices("val"))) // len(plan.epoch_examples)
        size = config.fit.batch_size
        self._train = BatchSource(plan, lambda rows: features[rows], len(plan.epoch_examples), size)
        self._val = BatchSource(plan, lambda rows: features[rows], len(plan.indices("val")), size)

    def epoch(self, number: int) -> tf.data.Dataset:
        """Batches of one epoch; inputs are features."""
        entries = _order(self._plan, self._config, number)
        rows = number % self._augmentations * len(self._plan.epoch_examples) + entries
        return self._train.ordered(rows, self._plan.epoch_examples[entries])

    def validation(self) -> tf.data.Dataset:
        """Batches of the validation split; inputs are features."""
        indices = self._plan.indices("val")
        rows = self._augmentations * len(self._plan.epoch_examples) + np.arange(len(indices))
        return self._val.ordered(rows, indices).map(lambda features, *_: features)


def build_pipeline(
    classifier: Classifier, plan: Plan, config: TrainConfig, unfreeze: str, epochs: int
) -> InputPipeline:
    """Use cached features if they save work and fit on the disk, otherwise images.

    Args:
        classifier: the model.
        plan: what is trained on.
        config: the configuration.
        unfreeze: first stage of the backbone that is trained, `all` or `none`.
        epochs: largest number of epochs for which the pipeline will be used.

    Raises:
        CacheError: the features cannot be written.
        Interrupted: a signal arrived.
    """
    augmentations = min(config.fit.cached_augmentations, epochs)
    network = classifier.network
    first = network.first_trained_stage(unfreeze)
    if first == 1 or augmentations < _MIN_AUGMENTATIONS:
        return ImagePipeline(classifier, plan, config)
    frozen = stages_as_model(classifier, 1, first)
    augmentations = min(augmentations, _augmentations_that_fit(frozen, plan, config))
    if augmentations < _MIN_AUGMENTATIONS:
        _log.info("too little disk space for features in %s: frozen layers run in every epoch", config.data.cache)
        return ImagePipeline(classifier, plan, config)
    count = augmentations * len(plan.epoch_examples) + len(plan.indices("val"))
    features = _store(_from_images(frozen, plan, config, augmentations), frozen, count, config)
    return FeaturePipeline(stages_as_model(classifier, first, network.head + 1), features, plan, config)


def head_pipeline(pipeline: InputPipeline, classifier: Classifier, plan: Plan, config: TrainConfig) -> InputPipeline:
    """Make the pipeline for the head alone from the one for fine-tuning; only the stages in between are run.

    Raises:
        CacheError: the features cannot be written.
        Interrupted: a signal arrived.
    """
    head = classifier.network.head
    first = classifier.network.first_trained_stage(config.fit.unfreeze)
    if first == head:
        return pipeline
    if not isinstance(pipeline, FeaturePipeline):
        return build_pipeline(classifier, plan, config, "none", config.fit.head_epochs)
    between = stages_as_model(classifier, first, head)
    features = _store(_from_features(between, pipeline.features, config), between, len(pipeline.features), config)
    return FeaturePipeline(classifier.head, features, plan, config)


def _augmentations_that_fit(frozen: keras.Model, plan: Plan, config: TrainConfig) -> int:
    """How many augmentations of every image have room on the disk."""
    image_bytes = int(np.prod(frozen.output_shape[1:])) * tf.as_dtype(frozen.output.dtype).size
    nearest = next(path for path in (config.data.cache, *config.data.cache.absolute().parents) if path.exists())
    room = min(config.fit.feature_cache_gb * 2**30, _FREE_SHARE * shutil.disk_usage(nearest).free)
    return int((room / image_bytes - len(plan.indices("val"))) // len(plan.epoch_examples))


def _store(results: Iterable[NDArray[Any]], model: keras.Model, count: int, config: TrainConfig) -> NDArray[Any]:
    """Write a model's outputs to a file without a name, which disappears when the process ends for any reason."""
    cache, dtype = config.data.cache, tf.as_dtype(model.output.dtype).as_numpy_dtype
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as file:
            for result in track(results, count, "Caching features of frozen layers", config.quiet, images=len):
                file.write(np.ascontiguousarray(result, dtype).tobytes())
            file.flush()
            stored: NDArray[Any] = np.asarray(np.memmap(file, np.uint8, mode="r")).view(dtype)
            return stored.reshape(count, *model.output_shape[1:])
    except OSError as error:
        raise CacheError(
            f"cannot write features to {cache} ({error_reason(error)}): free disk space, check permissions,"
            " choose another --cache, or set --cached-augmentations 0"
        ) from error


def _from_images(frozen: keras.Model, plan: Plan, config: TrainConfig, augmentations: int) -> Iterator[NDArray[Any]]:
    """Features of the examples of an epoch for each augmentation in turn, then of the validation split, in batches."""
    run = _compiled(frozen)
    size, pixels, val, examples = config.fit.batch_size, plan.dataset.pixels, plan.indices("val"), plan.epoch_examples
    train = BatchSource(plan, pixels, len(examples), size, Augmentation(config.augment))
    for number in range(augmentations):
        for images, *_ in train.ordered(examples, examples, (config.data.seed, number)):
            yield run(images).numpy()
    for images, *_ in BatchSource(plan, pixels, len(val), size).ordered(val, val):
        yield run(tf.cast(images, tf.float32)).numpy()


def _from_features(between: keras.Model, features: NDArray[Any], config: TrainConfig) -> Iterator[NDArray[Any]]:
    run = _compiled(between)
    for batch in batches(features, config.fit.batch_size):
        yield run(tf.constant(batch)).numpy()


def _compiled(model: Callable[..., tf.Tensor]) -> Callable[[Any], tf.Tensor]:
    """A model in inference mode as one TensorFlow graph."""
    compiled: Callable[[Any], tf.Tensor] = tf.function(
        lambda inputs: model(inputs, training=False), reduce_retracing=True
    )
    return compiled


def _order(plan: Plan, config: TrainConfig, number: int) -> NDArray[np.int64]:
    """Positions in `plan.epoch_examples`, int64 [M], shuffled differently in each epoch."""
    order: NDArray[np.int64] = np.random.default_rng([config.data.seed, number]).permutation(len(plan.epoch_examples))
    return order
