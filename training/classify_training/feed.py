"""What a phase is trained on, epoch by epoch: images through the whole model, or cached features through its end."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_training.augment import augmentation, reseed
from classify_training.config import TrainConfig, Unfreeze
from classify_training.errors import CacheError
from classify_training.model import HEAD, Classifier, first_trained_block, section
from classify_training.plan import Plan
from classify_training.progress import track

Images = NDArray[np.uint8]
_FREE_SHARE: Final = 0.8
_LEAST_VARIANTS: Final = 2
_log = logging.getLogger(__name__)


class Feed(Protocol):
    """Batches for `model`, a Keras model that gives float32 [N,C] logits."""

    model: keras.Model

    def epoch(self, number: int) -> tf.data.Dataset:
        """Batches of one epoch: (inputs, float32 [B,C] one-hot targets, float32 [B] weights).

        Equal numbers give equal epochs.
        """

    def validation(self) -> tf.data.Dataset:
        """Batches of the validation split's inputs, unchanged, in the order of `plan.indices("val")`."""


class ImageFeed:
    """Images augmented anew in every epoch; everything runs, frozen or not."""

    def __init__(self, classifier: Classifier, plan: Plan, config: TrainConfig) -> None:
        self.model = classifier.model
        self._plan, self._config = plan, config
        self._augment = augmentation(config.augment)

    def epoch(self, number: int) -> tf.data.Dataset:
        """As the protocol says; inputs are float32 [B,S,S,3] in 0-255."""
        reseed(self._augment, self._config.data.seed, number)
        entries = self._plan.epoch[_order(self._plan, self._config, number)]
        batches = image_batches(self._plan, entries, self._config.fit.batch_size)
        return batches.map(
            lambda images, targets, weights: (self._augment(images, training=True), targets, weights),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        ).prefetch(tf.data.AUTOTUNE)

    def validation(self) -> tf.data.Dataset:
        """As the protocol says."""
        batches = image_batches(self._plan, self._plan.indices("val"), self._config.fit.batch_size)
        return batches.map(lambda images, *_: images)


class FeatureFeed:
    """Results of the frozen layers, computed once for each image and augmentation variant and kept on disk.

    This is the same computation as running the frozen layers in every epoch: they are convolutions, ReLU and
    pooling, without dropout or batch statistics, so their result depends on their input alone; and it is kept in
    the number format in which it was computed. What differs is that augmentation repeats: epoch e trains on
    variant e modulo V of every entry of the epoch's list, so with V variants of 1,160 entries there are V x 1,160
    different pictures instead of a new one each time. With V not less than the epochs, nothing differs.

    Args:
        model: features -> logits.
        features: [V x M + validation, ...]: the variants of the epoch's list of M entries in turn, then the
            validation split.
        plan: what is trained on.
        config: of the training.
    """

    def __init__(self, model: keras.Model, features: NDArray[Any], plan: Plan, config: TrainConfig) -> None:
        self.model, self.features = model, features
        self._plan, self._config = plan, config
        self._variants = (len(features) - len(plan.indices("val"))) // len(plan.epoch)

    def epoch(self, number: int) -> tf.data.Dataset:
        """As the protocol says; inputs are features."""
        entries = _order(self._plan, self._config, number)
        rows = number % self._variants * len(self._plan.epoch) + entries
        return self._batches(rows, self._plan.epoch[entries]).prefetch(tf.data.AUTOTUNE)

    def validation(self) -> tf.data.Dataset:
        """As the protocol says."""
        indices = self._plan.indices("val")
        rows = self._variants * len(self._plan.epoch) + np.arange(len(indices))
        return self._batches(rows, indices).map(lambda features, *_: features)

    def _batches(self, rows: NDArray[np.int64], indices: NDArray[np.int64]) -> tf.data.Dataset:
        return _gathered(self._plan, rows, indices, lambda chosen: self.features[chosen], self._config.fit.batch_size)


def make_feed(classifier: Classifier, plan: Plan, config: TrainConfig, unfreeze: Unfreeze, epochs: int) -> Feed:
    """Cached features where they save work and find room, otherwise images.

    Args:
        classifier: the model.
        plan: what is trained on.
        config: of the training.
        unfreeze: the first block that is trained.
        epochs: for which the feed will be used at most.

    Raises:
        CacheError: the features cannot be written.
    """
    variants = min(config.fit.variants, epochs)
    first = first_trained_block(unfreeze)
    if first == 1 or variants < _LEAST_VARIANTS:
        return ImageFeed(classifier, plan, config)
    frozen = section(classifier, 1, first)
    variants = min(variants, _variants_that_fit(frozen, plan, config))
    if variants < _LEAST_VARIANTS:
        _log.info("too little room for features in %s: frozen layers run in every epoch", config.data.cache)
        return ImageFeed(classifier, plan, config)
    count = variants * len(plan.epoch) + len(plan.indices("val"))
    features = _store(_from_images(frozen, plan, config, variants), frozen, count, config)
    return FeatureFeed(section(classifier, first, HEAD + 1), features, plan, config)


def head_feed(feed: Feed, classifier: Classifier, plan: Plan, config: TrainConfig) -> Feed:
    """The feed for the head alone, from that of fine-tuning: only the blocks in between are still to be run.

    Raises:
        CacheError: the features cannot be written.
    """
    first = first_trained_block(config.fit.unfreeze)
    if not isinstance(feed, FeatureFeed) or first == HEAD:
        return feed if first == HEAD else make_feed(classifier, plan, config, "none", config.fit.head_epochs)
    between = section(classifier, first, HEAD)
    features = _store(_from_features(between, feed.features, config), between, len(feed.features), config)
    return FeatureFeed(classifier.head, features, plan, config)


def _variants_that_fit(frozen: keras.Model, plan: Plan, config: TrainConfig) -> int:
    image_bytes = int(np.prod(frozen.output_shape[1:])) * tf.as_dtype(frozen.output.dtype).size
    nearest = next(path for path in (config.data.cache, *config.data.cache.absolute().parents) if path.exists())
    room = min(config.fit.feature_space * 2**30, _FREE_SHARE * shutil.disk_usage(nearest).free)
    return int((room / image_bytes - len(plan.indices("val"))) // len(plan.epoch))


def _store(results: Iterable[NDArray[Any]], model: keras.Model, count: int, config: TrainConfig) -> NDArray[Any]:
    """Write a model's results to a file without a name, which vanishes with the process however that ends."""
    cache, dtype = config.data.cache, tf.as_dtype(model.output.dtype).as_numpy_dtype
    total = -(-count // config.fit.batch_size)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as file:
            for result in track(results, total=total, description="frozen layers", quiet=config.quiet):
                file.write(np.ascontiguousarray(result, dtype).tobytes())
            file.flush()
            stored: NDArray[Any] = np.memmap(file, np.uint8, mode="r").view(dtype)
            return stored.reshape(count, *model.output_shape[1:])
    except OSError as error:
        raise CacheError(
            f"cannot keep features in {cache} ({error.strerror}): free space, choose another --cache,"
            " or set --variants 0"
        ) from error


def _from_images(frozen: keras.Model, plan: Plan, config: TrainConfig, variants: int) -> Iterator[NDArray[Any]]:
    """Features of every variant of the epoch's list in turn, then of the validation split, batch by batch."""
    augment = augmentation(config.augment)

    unchanged = _compiled(frozen)
    augmented = _compiled(lambda images, training: frozen(augment(images, training=True), training=training))
    for number in range(variants + 1):
        entries, function = (plan.epoch, augmented) if number < variants else (plan.indices("val"), unchanged)
        reseed(augment, config.data.seed, number)
        for images, *_ in image_batches(plan, entries, config.fit.batch_size).prefetch(tf.data.AUTOTUNE):
            yield function(images).numpy()


def _from_features(between: keras.Model, features: NDArray[Any], config: TrainConfig) -> Iterator[NDArray[Any]]:
    run = _compiled(between)
    for start in range(0, len(features), config.fit.batch_size):
        yield run(tf.constant(features[start : start + config.fit.batch_size])).numpy()


def _compiled(model: Callable[..., tf.Tensor]) -> Callable[[Any], tf.Tensor]:
    """A model in inference mode as one TensorFlow graph."""
    compiled: Callable[[Any], tf.Tensor] = tf.function(
        lambda inputs: model(inputs, training=False), reduce_retracing=True
    )
    return compiled


def _order(plan: Plan, config: TrainConfig, number: int) -> NDArray[np.int64]:
    """Positions of the epoch's list, shuffled anew in each epoch."""
    order: NDArray[np.int64] = np.random.default_rng([config.data.seed, number]).permutation(len(plan.epoch))
    return order


def image_batches(plan: Plan, indices: NDArray[np.int64], batch_size: int) -> tf.data.Dataset:
    """Examples in the order given: (float32 [B,S,S,3] in 0-255, float32 [B,C] one-hot targets, float32 [B] weights)."""
    batches = _gathered(plan, indices, indices, lambda chosen: plan.dataset.pixels(chosen), batch_size)
    return batches.map(lambda images, targets, weights: (tf.cast(images, tf.float32), targets, weights))


def _gathered(
    plan: Plan,
    rows: NDArray[np.int64],
    indices: NDArray[np.int64],
    gather: Callable[[NDArray[np.int64]], NDArray[Any]],
    batch_size: int,
) -> tf.data.Dataset:
    """Batches of what `gather` gives for some rows, with the targets and weights of the examples they are of."""
    sample = gather(rows[:1])
    targets = plan.targets[indices]
    weights = plan.class_weights[targets]

    def load(chosen: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        inputs = tf.numpy_function(gather, [chosen], sample.dtype, stateful=False)
        one_hot = tf.one_hot(targets, len(plan.class_names))
        return tf.ensure_shape(inputs, (None, *sample.shape[1:])), one_hot, weights

    data = tf.data.Dataset.from_tensor_slices((rows, targets, weights)).batch(batch_size)
    return data.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
