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

from classify_serving.contract.text import error_reason
from classify_training.batches import batches
from classify_training.config import TrainConfig
from classify_training.data.plan import Plan
from classify_training.errors import CacheError
from classify_training.model.augmentation import Augmentation
from classify_training.model.classifier import Classifier, stages_as_model
from classify_training.progress import track

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
        augment = Augmentation(config.augment)
        size = config.fit.batch_size
        pixels = plan.dataset.pixels
        self._train = _Batches(plan, pixels, len(plan.epoch), size, augment)
        self._val = _Batches(plan, pixels, len(plan.indices("val")), size)

    def epoch(self, number: int) -> tf.data.Dataset:
        """As the protocol says; inputs are float32 [B,S,S,3] in 0-255."""
        indices = self._plan.epoch[_order(self._plan, self._config, number)]
        return self._train.ordered(indices, indices, (self._config.data.seed, number))

    def validation(self) -> tf.data.Dataset:
        """As the protocol says."""
        indices = self._plan.indices("val")
        return self._val.ordered(indices, indices).map(lambda images, *_: tf.cast(images, tf.float32))


class FeatureFeed:
    """Results of the frozen layers, computed once for each image and augmentation variant and kept on disk.

    This is the same computation as running the frozen layers in every epoch: they are convolutions, ReLU and
    pooling, without dropout or batch statistics, so their result depends on their input alone; and it is kept in
    the number format in which it was computed. What differs is that augmentation repeats: epoch e trains on
    variant e modulo V of every entry of the epoch's list, so with V variants of 1,160 entries there are V x 1,160
    different pictures instead of a new one each time. With V not less than the epochs, none repeats.

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
        size = config.fit.batch_size
        self._train = _Batches(plan, lambda rows: features[rows], len(plan.epoch), size)
        self._val = _Batches(plan, lambda rows: features[rows], len(plan.indices("val")), size)

    def epoch(self, number: int) -> tf.data.Dataset:
        """As the protocol says; inputs are features."""
        entries = _order(self._plan, self._config, number)
        rows = number % self._variants * len(self._plan.epoch) + entries
        return self._train.ordered(rows, self._plan.epoch[entries])

    def validation(self) -> tf.data.Dataset:
        """As the protocol says."""
        indices = self._plan.indices("val")
        rows = self._variants * len(self._plan.epoch) + np.arange(len(indices))
        return self._val.ordered(rows, indices).map(lambda features, *_: features)


def make_feed(classifier: Classifier, plan: Plan, config: TrainConfig, unfreeze: str, epochs: int) -> Feed:
    """Cached features where they save work and find room, otherwise images.

    Args:
        classifier: the model.
        plan: what is trained on.
        config: of the training.
        unfreeze: the first stage that is trained.
        epochs: for which the feed will be used at most.

    Raises:
        CacheError: the features cannot be written.
    """
    variants = min(config.fit.variants, epochs)
    first = classifier.network.first_trained_stage(unfreeze)
    if first == 1 or variants < _LEAST_VARIANTS:
        return ImageFeed(classifier, plan, config)
    frozen = stages_as_model(classifier, 1, first)
    variants = min(variants, _variants_that_fit(frozen, plan, config))
    if variants < _LEAST_VARIANTS:
        _log.info("too little room for features in %s: frozen layers run in every epoch", config.data.cache)
        return ImageFeed(classifier, plan, config)
    count = variants * len(plan.epoch) + len(plan.indices("val"))
    features = _store(_from_images(frozen, plan, config, variants), frozen, count, config)
    return FeatureFeed(stages_as_model(classifier, first, classifier.network.head + 1), features, plan, config)


def head_feed(feed: Feed, classifier: Classifier, plan: Plan, config: TrainConfig) -> Feed:
    """The feed for the head alone, from that of fine-tuning: only the blocks in between are still to be run.

    Raises:
        CacheError: the features cannot be written.
    """
    head = classifier.network.head
    first = classifier.network.first_trained_stage(config.fit.unfreeze)
    if not isinstance(feed, FeatureFeed) or first == head:
        return feed if first == head else make_feed(classifier, plan, config, "none", config.fit.head_epochs)
    between = stages_as_model(classifier, first, head)
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
            stored: NDArray[Any] = np.asarray(np.memmap(file, np.uint8, mode="r")).view(dtype)
            return stored.reshape(count, *model.output_shape[1:])
    except OSError as error:
        raise CacheError(
            f"cannot keep features in {cache} ({error_reason(error)}): free disk space, check permissions,"
            " choose another --cache, or set --variants 0"
        ) from error


def _from_images(frozen: keras.Model, plan: Plan, config: TrainConfig, variants: int) -> Iterator[NDArray[Any]]:
    """Features of every variant of the epoch's list in turn, then of the validation split, batch by batch."""
    run = _compiled(frozen)
    size, pixels, val = config.fit.batch_size, plan.dataset.pixels, plan.indices("val")
    train = _Batches(plan, pixels, len(plan.epoch), size, Augmentation(config.augment))
    for number in range(variants):
        for images, *_ in train.ordered(plan.epoch, plan.epoch, (config.data.seed, number)):
            yield run(images).numpy()
    for images, *_ in _Batches(plan, pixels, len(val), size).ordered(val, val):
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
    """Positions of the epoch's list, shuffled anew in each epoch."""
    order: NDArray[np.int64] = np.random.default_rng([config.data.seed, number]).permutation(len(plan.epoch))
    return order


class _Batches:
    """Batches of what `gather` gives for some rows, with the targets and weights of the examples they are of.

    The order is looked up while it runs, so that all epochs share one tf.data graph: building one takes longer than
    an epoch of a small dataset.

    Args:
        plan: gives targets and weights.
        gather: rows, int64 [B] -> array [B,...].
        count: how many rows a pass has.
        batch_size: B, of all batches but the last.
        augment: applied to what is gathered, in parallel.
    """

    def __init__(
        self,
        plan: Plan,
        gather: Callable[[NDArray[np.int64]], NDArray[Any]],
        count: int,
        batch_size: int,
        augment: Augmentation | None = None,
    ) -> None:
        self._plan, self._gather, self._batch_size, self._augment = plan, gather, batch_size, augment
        self._sample = gather(np.zeros(1, np.int64))
        self._rows = self._indices = np.zeros(0, np.int64)
        self._seed: tuple[int, ...] = ()
        numbers = tf.data.Dataset.range(-(-count // batch_size))
        loaded = numbers.map(self._load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        self._data = loaded.prefetch(tf.data.AUTOTUNE)

    def ordered(
        self, rows: NDArray[np.int64], indices: NDArray[np.int64], seed: tuple[int, ...] = ()
    ) -> tf.data.Dataset:
        """(inputs, float32 [B,C] one-hot targets, float32 [B] weights) for rows, and the examples they are of.

        Augmentation is drawn from the seed and the batch's number, so threads do not change it. Valid until it is
        called again.
        """
        self._rows, self._indices, self._seed = rows, indices, seed
        return self._data

    def _load(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        types = (self._sample.dtype, tf.int64, tf.float32, tf.int32)
        inputs, targets, weights, seed = tf.numpy_function(self._batch, [number], types, stateful=False)
        inputs = tf.ensure_shape(inputs, (None, *self._sample.shape[1:]))
        if self._augment:
            inputs = self._augment(inputs, training=True, seed=tf.ensure_shape(seed, (2,)))
        one_hot = tf.one_hot(tf.ensure_shape(targets, (None,)), len(self._plan.class_names))
        return inputs, one_hot, tf.ensure_shape(weights, (None,))

    def _batch(self, number: int) -> tuple[NDArray[Any], ...]:
        place = slice(number * self._batch_size, (number + 1) * self._batch_size)
        targets = self._plan.targets[self._indices[place]]
        seed = np.random.SeedSequence([*self._seed, number]).generate_state(2, np.uint32).view(np.int32)
        return self._gather(self._rows[place]), targets, self._plan.class_weights[targets], seed
