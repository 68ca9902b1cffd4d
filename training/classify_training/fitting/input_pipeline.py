"""Input pipelines: what a phase is trained on, either images or cached features of the frozen layers."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_serving.contract.text import error_reason
from classify_training.config import TrainConfig
from classify_training.data.plan import Plan
from classify_training.errors import CacheError
from classify_training.fitting.batch_source import BatchSource
from classify_training.fitting.cost import saved_share
from classify_training.model.augmentation import Augmentation
from classify_training.model.classifier import Classifier

_FREE_SHARE: Final = 0.8
_WORTH_CACHING: Final = 0.5
_VAL: Final = -1
"""Place of the validation split among the cached augmentations."""

_log = logging.getLogger(__name__)


class InputPipeline(Protocol):
    """Batches for `model`, a Keras model with float32 [N,C] logits as output."""

    model: keras.Model

    def missing(self, number: int) -> int:
        """Number of images that must be computed before an epoch and its validation."""

    def compute(self, number: int) -> Iterator[int]:
        """Compute them; yields the number of images in each batch."""

    def compute_no_more(self) -> None:
        """Let later epochs use again what is computed already, for lack of time."""

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

    def missing(self, number: int) -> int:
        """Nothing: all layers run in every step."""
        return 0

    def compute(self, number: int) -> Iterator[int]:
        """Nothing to compute."""
        return iter(())

    def compute_no_more(self) -> None:
        """Nothing is computed anyway."""

    def epoch(self, number: int) -> tf.data.Dataset:
        """Batches of one epoch; inputs are float32 [B,S,S,3] in 0-255."""
        indices = self._plan.epoch_examples[_order(self._plan, self._config, number)]
        return self._train.ordered(indices, indices, (self._config.data.seed, number))

    def validation(self) -> tf.data.Dataset:
        """Batches of the validation split; inputs are float32 [B,S,S,3] in 0-255."""
        indices = self._plan.indices("val")
        return self._val.ordered(indices, indices).map(lambda images, *_: tf.cast(images, tf.float32))


class FeaturePipeline:
    """Features of the frozen layers, computed when they are needed first and stored on disk.

    The result is the same as running the frozen layers in every epoch: they are convolutions, ReLU and pooling,
    without dropout or batch statistics, so their output depends on their input only, and it is stored in the number
    format in which it was computed. The difference is that augmentations repeat: with V cached augmentations, epoch e
    uses augmentation e modulo V of every image. If V is not less than the number of epochs, none repeats.

    Args:
        classifier: the model.
        plan: what is trained on.
        config: the configuration.
        first: number of the first stage that is trained.
        augmentations: V.

    Raises:
        CacheError: there is no room for the features.
    """

    def __init__(self, classifier: Classifier, plan: Plan, config: TrainConfig, first: int, augmentations: int) -> None:
        self.model = classifier.stages(first, classifier.network.head + 1)
        self._plan, self._config, self._augmentations = plan, config, augmentations
        frozen = classifier.stages(1, first)
        self._run = _compiled(frozen)
        size, pixels, val = config.fit.batch_size, plan.dataset.pixels, plan.indices("val")
        count = len(plan.epoch_examples)
        self._images = BatchSource(plan, pixels, count, size, Augmentation(config.augment))
        self._val_images = BatchSource(plan, pixels, len(val), size)
        features = _stored(augmentations * count + len(val), frozen, config)
        self.features, self._is_filled = features, [False] * (augmentations + 1)
        self._used: Sequence[int] = range(augmentations)
        self._train = BatchSource(plan, lambda rows: features[rows], count, size)
        self._val = BatchSource(plan, lambda rows: features[rows], len(val), size)

    def missing(self, number: int) -> int:
        """Number of images whose features this epoch needs and that are not computed yet."""
        counts = {self._augmentation(number): len(self._plan.epoch_examples), _VAL: len(self._plan.indices("val"))}
        return sum(count for part, count in counts.items() if not self._is_filled[part])

    def compute(self, number: int) -> Iterator[int]:
        """Compute what is missing for an epoch; yields the number of images in each batch."""
        examples, val, augmentation = self._plan.epoch_examples, self._plan.indices("val"), self._augmentation(number)
        if not self._is_filled[augmentation]:
            images = self._images.ordered(examples, examples, (self._config.data.seed, augmentation))
            yield from self._fill(augmentation, augmentation * len(examples), images)
        if not self._is_filled[_VAL]:
            yield from self._fill(_VAL, self._augmentations * len(examples), self._val_images.ordered(val, val))

    def compute_no_more(self) -> None:
        """Let later epochs use the augmentations that are computed already; at least one must be."""
        self._used = [augmentation for augmentation in range(self._augmentations) if self._is_filled[augmentation]]

    def epoch(self, number: int) -> tf.data.Dataset:
        """Batches of one epoch, for which nothing is missing; inputs are features."""
        examples, entries = self._plan.epoch_examples, _order(self._plan, self._config, number)
        return self._train.ordered(self._augmentation(number) * len(examples) + entries, examples[entries])

    def validation(self) -> tf.data.Dataset:
        """Batches of the validation split, once an epoch was computed; inputs are features."""
        val, start = self._plan.indices("val"), self._augmentations * len(self._plan.epoch_examples)
        return self._val.ordered(start + np.arange(len(val)), val).map(lambda features, *_: features)

    def _augmentation(self, number: int) -> int:
        return self._used[number % len(self._used)]

    def _fill(self, part: int, start: int, images: tf.data.Dataset) -> Iterator[int]:
        """Compute the features of one augmentation, or of the validation split."""
        for batch, *_ in images:
            features = self._run(tf.cast(batch, tf.float32)).numpy()
            self.features[start : start + len(features)] = features
            start += len(features)
            yield len(features)
        self._is_filled[part] = True


def build_pipeline(classifier: Classifier, plan: Plan, config: TrainConfig, unfreeze: str) -> InputPipeline:
    """Use cached features if they save at least half of the work and fit on the disk, otherwise images.

    New augmentations in every epoch teach more than repeated ones; they only cost more where most of the work is in
    frozen layers. For the head, six augmentations of an image brought nothing more than three (docs/benchmarks.md).

    Args:
        classifier: the model.
        plan: what is trained on.
        config: the configuration.
        unfreeze: first stage of the backbone that is trained, `all` or `none`.

    Raises:
        CacheError: the features cannot be written.
    """
    network = classifier.network
    first = network.first_trained_stage(unfreeze)
    wanted = _wanted_augmentations(classifier, config, first)
    augmentations = cached_augmentations(classifier, plan, config, first)
    if augmentations < wanted:
        consequence = f"{augmentations} augmentations of each image repeat" if augmentations else "they run every time"
        _log.info(
            "features of frozen layers would need more room than --feature-cache-gb or the disk of %s have: %s",
            config.data.cache,
            consequence,
        )
    if not augmentations:
        return ImagePipeline(classifier, plan, config)
    return FeaturePipeline(classifier, plan, config, first, augmentations)


def cached_augmentations(classifier: Classifier, plan: Plan, config: TrainConfig, first: int) -> int:
    """Of how many augmentations of every image the features of frozen stages are cached; 0 if these run in every epoch.

    Args:
        classifier: the model.
        plan: what is trained on.
        config: the configuration.
        first: number of the first stage that is trained.
    """
    wanted = _wanted_augmentations(classifier, config, first)
    return min(wanted, _augmentations_that_fit(classifier, first, plan, config)) if wanted else 0


def _wanted_augmentations(classifier: Classifier, config: TrainConfig, first: int) -> int:
    """How many augmentations are cached if there is room; 0 if that saves too little."""
    return config.fit.cached_augmentations if saved_share(classifier, first) >= _WORTH_CACHING else 0


def _augmentations_that_fit(classifier: Classifier, first: int, plan: Plan, config: TrainConfig) -> int:
    """How many augmentations of every image have room on the disk."""
    image_bytes = classifier.width(first - 1) * tf.as_dtype(classifier.features.output.dtype).size
    nearest = next(path for path in (config.data.cache, *config.data.cache.absolute().parents) if path.exists())
    room = min(config.fit.feature_cache_gb * 2**30, _FREE_SHARE * shutil.disk_usage(nearest).free)
    return max(0, int((room / image_bytes - len(plan.indices("val"))) // len(plan.epoch_examples)))


def _stored(count: int, model: keras.Model, config: TrainConfig) -> NDArray[Any]:
    """Room for a model's outputs in a file without a name, which disappears when the process ends for any reason."""
    cache, dtype = config.data.cache, np.dtype(tf.as_dtype(model.output.dtype).as_numpy_dtype)
    shape = (count, *model.output_shape[1:])
    size = int(np.prod(shape)) * dtype.itemsize
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as file:
            # The room is taken now: a write into a map that finds no room later would end the process.
            os.posix_fallocate(file.fileno(), 0, size)
            room: NDArray[Any] = np.asarray(np.memmap(file, np.uint8, mode="r+")).view(dtype)
            return room.reshape(shape)
    except OSError as error:
        raise CacheError(
            f"cannot write features to {cache} ({error_reason(error)}): free disk space, check permissions,"
            " choose another --cache, or set --cached-augmentations 0"
        ) from error


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
