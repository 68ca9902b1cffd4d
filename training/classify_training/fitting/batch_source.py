"""Batches of training inputs through tf.data, loaded and augmented in parallel."""

import os
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_training.data.plan import Plan
from classify_training.model.augmentation import Augmentation

_MOST_PARALLEL: Final = 16


class BatchSource:
    """Batches of inputs with the targets and weights of their examples.

    The order is looked up while the pipeline runs, so that all epochs share one tf.data graph: building a graph takes
    longer than an epoch of a small dataset.

    Args:
        plan: targets and weights of the examples.
        gather: rows, int64 [B] -> inputs [B,...].
        count: number of rows in one pass.
        batch_size: B; the last batch may be smaller.
        augment: applied to the inputs, in parallel.
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
        parallel = min(os.cpu_count() or 1, _MOST_PARALLEL)
        loaded = numbers.map(self._load, num_parallel_calls=parallel, deterministic=True)
        options = tf.data.Options()
        # TensorFlow 2.21 ends an epoch only when the thread that tunes these numbers wakes up again, whose naps double:
        # that took up to 0.7 of the time of the epoch, without any work.
        options.autotune.enabled = False
        self._data = loaded.prefetch(parallel).with_options(options)

    def ordered(
        self, rows: NDArray[np.int64], indices: NDArray[np.int64], seed: tuple[int, ...] = ()
    ) -> tf.data.Dataset:
        """Batches (inputs, float32 [B,C] one-hot targets, float32 [B] weights).

        They are valid until the next call. Augmentation depends on the seed and the number of the batch only, so the
        order in which threads run does not change it.

        Args:
            rows: int64 [N], what to gather.
            indices: int64 [N], example of each row.
            seed: random seed of augmentation.
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
