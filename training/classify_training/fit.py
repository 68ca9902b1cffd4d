"""The two phases: first the head on frozen convolutions, then fine-tuning at a low rate."""

import logging
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.progress import Progress

from classify_training.augment import augmentation
from classify_training.config import FitConfig, TrainConfig
from classify_training.model import Classifier, unfreeze
from classify_training.plan import Plan
from classify_training.progress import progress_bar

_log = logging.getLogger(__name__)


def fit(classifier: Classifier, plan: Plan, config: TrainConfig) -> None:
    """Train in place; afterwards the weights are those of the best validation loss.

    With random weights there is nothing to keep frozen, so everything is trained from the start.
    """
    train, val = training_batches(plan, config), validation_batches(plan, config.fit.batch_size)
    steps = -(-len(plan.epoch) // config.fit.batch_size)
    if config.fit.weights == "random":
        phases = [("all", config.fit.epochs, _cosine(config.fit, steps))]
    else:
        phases = [
            ("none", config.fit.head_epochs, config.fit.head_rate),
            ("block5", config.fit.epochs, _cosine(config.fit, steps)),
        ]
    for unfrozen, epochs, rate in phases:
        if epochs:
            _run_phase(classifier, train, val, unfrozen, epochs, rate, steps, config)


def training_batches(plan: Plan, config: TrainConfig) -> tf.data.Dataset:
    """Endlessly shuffled, augmented batches: (float32 [B,S,S,3] in 0-255, int64 [B])."""
    images, targets = plan.dataset.images, plan.targets
    augment = augmentation(config.augment, config.data.seed)
    order = tf.data.Dataset.from_tensor_slices(plan.epoch)
    order = order.shuffle(len(plan.epoch), seed=config.data.seed).batch(config.fit.batch_size)

    def gather(indices: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return images[indices].astype(np.float32), targets[indices]

    def load(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch, labels = tf.numpy_function(gather, [indices], (tf.float32, tf.int64))
        batch.set_shape((None, *images.shape[1:]))
        labels.set_shape((None,))
        return augment(batch, training=True), labels

    return order.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def validation_batches(plan: Plan, batch_size: int) -> tf.data.Dataset | None:
    """The validation split, unchanged; None if it is empty."""
    indices = plan.indices("val")
    if not len(indices):
        return None
    data = tf.data.Dataset.from_tensor_slices((plan.dataset.images[indices], plan.targets[indices]))
    return data.batch(batch_size).map(lambda images, labels: (tf.cast(images, tf.float32), labels))


def _cosine(config: FitConfig, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up over the first tenth, then a cosine to 0 (Loshchilov and Hutter, 2017)."""
    total = max(1, config.epochs * steps)
    warm_up = max(1, total // 10)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, total - warm_up), warmup_target=config.rate, warmup_steps=warm_up
    )


def _run_phase(
    classifier: Classifier,
    train: tf.data.Dataset,
    val: tf.data.Dataset | None,
    unfrozen: str,
    epochs: int,
    rate: float | keras.optimizers.schedules.LearningRateSchedule,
    steps: int,
    config: TrainConfig,
) -> None:
    unfreeze(classifier.backbone, unfrozen)
    classifier.model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    phase = "head" if unfrozen == "none" else "fine-tuning"
    with progress_bar(config.quiet) as bar:
        callbacks: list[keras.callbacks.Callback] = [_Report(bar, phase, epochs, steps)]
        if val is not None:
            callbacks.append(keras.callbacks.EarlyStopping(patience=config.fit.patience, restore_best_weights=True))
        classifier.model.fit(train, validation_data=val, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)


class _Report(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """A progress bar over all steps of a phase, and a log line an epoch."""

    def __init__(self, bar: Progress, phase: str, epochs: int, steps: int) -> None:
        super().__init__()
        self._bar, self._phase, self._epochs = bar, phase, epochs
        self._task = bar.add_task(phase, total=epochs * steps)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        figures = "  ".join(f"{name} {value:.3f}" for name, value in (logs or {}).items())
        _log.info("%s %2d/%d  %s", self._phase, epoch + 1, self._epochs, figures)
