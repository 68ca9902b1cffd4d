"""The two phases of training: first the head on a frozen backbone, then fine-tuning at a low learning rate."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from classify_training import interrupts
from classify_training.config import FitConfig, TrainConfig
from classify_training.data.balance import class_weights
from classify_training.data.plan import Plan
from classify_training.errors import FitError
from classify_training.fitting.calibration import fit_temperature, negative_log_likelihood
from classify_training.fitting.checkpoint import Checkpoint, Epoch, State
from classify_training.fitting.input_pipeline import InputPipeline, build_pipeline, head_pipeline
from classify_training.model.classifier import Classifier, reseed_dropout, set_trainable
from classify_training.progress import add_images, progress_bar

_WARM_UP: Final = 0.1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """One phase of a training.

    Attributes:
        name: `head` or `fine-tuning`.
        unfreeze: first stage of the backbone that is trained, `all` or `none`.
        epochs: largest number of epochs.
        learning_rate: peak learning rate.
    """

    name: str
    unfreeze: str
    epochs: int
    learning_rate: float


def phases(config: FitConfig) -> list[Phase]:
    """The phases of a training; random weights are not worth freezing, so all layers are then trained at once."""
    if config.weights == "random":
        planned = [Phase("fine-tuning", "all", config.epochs, config.peak_learning_rate)]
    else:
        planned = [
            Phase("head", "none", config.head_epochs, config.head_learning_rate),
            Phase("fine-tuning", config.unfreeze, config.epochs, config.peak_learning_rate),
        ]
        if config.unfreeze == "none":
            planned.pop()
    return [phase for phase in planned if phase.epochs]


def fit(classifier: Classifier, plan: Plan, config: TrainConfig, checkpoint: Checkpoint) -> State:
    """Train the classifier in place, starting from the checkpoint if there is one.

    Afterwards the weights are those with the lowest validation loss; those of fine-tuning are kept only if their loss
    is lower than the one before fine-tuning. The loss is compared after temperature scaling, because the exported
    model is scaled too: an epoch with good but overconfident predictions is not a bad one. Without a validation split
    the last weights are kept.

    Args:
        classifier: the model.
        plan: what to train on.
        config: the configuration.
        checkpoint: where progress is stored.

    Returns:
        The final state, with the history of all epochs.

    Raises:
        CacheError: features of frozen layers cannot be written.
        FitError: the loss became infinite.
        RunError: the checkpoint cannot be written or read.
        Interrupted: a signal arrived; the checkpoint holds all finished epochs.
    """
    planned = phases(config.fit)
    state = checkpoint.state()
    if state.history:
        _log.info("resuming after epoch %d of phase %s", state.epoch, planned[state.phase].name)
    pipeline: InputPipeline | None = None
    for number, phase in enumerate(planned):
        set_trainable(classifier, phase.unfreeze)
        if number < state.phase:
            continue
        if pipeline is None:
            last = planned[-1]
            pipeline = build_pipeline(classifier, plan, config, last.unfreeze, max(p.epochs for p in planned[number:]))
        own = pipeline if phase is planned[-1] else head_pipeline(pipeline, classifier, plan, config)
        state = _Trainer(classifier, own, plan, config, number, phase, checkpoint).run(state)
    return state


class _Trainer:
    """One phase of a training."""

    def __init__(
        self,
        classifier: Classifier,
        pipeline: InputPipeline,
        plan: Plan,
        config: TrainConfig,
        number: int,
        phase: Phase,
        checkpoint: Checkpoint,
    ) -> None:
        self._classifier, self._pipeline, self._plan, self._config = classifier, pipeline, plan, config
        self._number, self._phase, self._checkpoint = number, phase, checkpoint
        self._steps = -(-len(plan.epoch_examples) // config.fit.batch_size)
        pipeline.model.compile(
            keras.optimizers.Adam(self._learning_rate()),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.fit.label_smoothing),
            metrics=["accuracy"],
            # Keras would choose XLA, which is slower on CPUs than TensorFlow's own kernels.
            jit_compile="auto" if tf.config.list_physical_devices("GPU") else False,
        )
        self._targets = plan.targets[plan.indices("val")]
        counts = np.bincount(self._targets, minlength=len(plan.class_names))
        is_balanced = config.data.balance != "none" and len(self._targets) > 0
        self._weights = class_weights(np.maximum(counts, 1))[self._targets] if is_balanced else None

    def _learning_rate(self) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """Linear warm-up over the first tenth, then cosine decay to 0 (Loshchilov and Hutter, 2017); or constant."""
        if self._config.fit.schedule == "constant":
            return self._phase.learning_rate
        total = self._phase.epochs * self._steps
        warm_up = max(1, round(total * _WARM_UP))
        return keras.optimizers.schedules.CosineDecay(
            0.0, max(1, total - warm_up), warmup_target=self._phase.learning_rate, warmup_steps=warm_up
        )

    def run(self, state: State) -> State:
        """Train to the end of this phase, from a state of this phase or of the one before."""
        model, is_begun = self._pipeline.model, state.phase == self._number
        images, epochs = len(self._plan.epoch_examples), self._phase.epochs
        with progress_bar(self._config.quiet) as bar:
            done = state.epoch * images if is_begun else 0
            task = add_images(bar, self._phase.name, epochs * images, done, epochs)
            if is_begun and state.epoch:
                self._checkpoint.restore_last(state, model)
            elif is_begun and state.history:
                # Killed before the first epoch of this phase ended: it starts from the best weights so far.
                self._checkpoint.restore_best(state, model)
            else:
                state = self._start(state)
            progress = _ImageProgress(lambda number: bar.advance(task, number), self._config.fit.batch_size, images)
            while state.epoch < self._phase.epochs and not self._is_over(state):
                state = self._epoch(state, progress)
        reason = self._reason(state)
        if len(self._targets):
            self._checkpoint.restore_best(state, model)
            _log.info("%s: kept epoch %d of %d; %s", self._phase.name, state.best_epoch, state.epoch, reason)
        return replace(state, ended=(*state.ended, reason))

    def _start(self, state: State) -> State:
        """Take the weights at the start of the phase as its best ones so far, unless nothing was trained before."""
        state = State(phase=self._number, history=state.history, ended=state.ended)
        if state.history and len(self._targets):
            state = replace(state, best_loss=self._validate()["val_loss_calibrated"])
            self._checkpoint.save(state, self._pipeline.model)
        return state

    def _is_over(self, state: State) -> bool:
        return bool(len(self._targets)) and state.epoch - state.best_epoch >= self._config.fit.patience

    def _reason(self, state: State) -> str:
        """Why this phase has ended."""
        option = "--head-epochs" if self._phase.unfreeze == "none" else "--epochs"
        if not len(self._targets):
            return f"without validation images, it ends after {option}"
        if self._is_over(state):
            return f"ended after {self._config.fit.patience} epochs without a lower validation loss"
        if state.epoch - state.best_epoch <= 1:
            return f"the validation loss was still falling: raise {option}"
        return f"ended after {option}"

    def _epoch(self, state: State, progress: "_ImageProgress") -> State:
        start = time.monotonic()
        # From the seed and the epoch's number only, so that a resumed training draws the same dropout.
        reseed_dropout(self._classifier, (self._config.data.seed, self._number, state.epoch))
        batches = self._pipeline.epoch(state.epoch)
        fitted = self._pipeline.model.fit(
            batches, callbacks=[progress, _InterruptCheck()], shuffle=False, verbose=0
        ).history
        if not math.isfinite(fitted["loss"][0]):
            raise FitError(
                f"the loss in the phase {self._phase.name} became infinite: lower --learning-rate or"
                " --head-learning-rate"
            )
        metrics = self._validate() if len(self._targets) else {}
        done = Epoch(
            phase=self._phase.name,
            epoch=state.epoch + 1,
            loss=fitted["loss"][0],
            accuracy=fitted["accuracy"][0],
            **metrics,
            seconds=time.monotonic() - start,
        )
        state = replace(state, epoch=done.epoch, history=(*state.history, done))
        if done.val_loss_calibrated is None or state.best_loss is None or done.val_loss_calibrated < state.best_loss:
            state = replace(state, best_epoch=done.epoch, best_loss=done.val_loss_calibrated)
        self._checkpoint.save(state, self._pipeline.model)
        _log.info("%s", _line(done, self._phase.epochs))
        return state

    def _validate(self) -> dict[str, float]:
        logits = self._pipeline.model.predict(self._pipeline.validation(), callbacks=[_InterruptCheck()], verbose=0)
        temperature = fit_temperature(logits, self._targets, self._weights)
        return {
            "val_loss": negative_log_likelihood(logits, self._targets, self._weights),
            "val_loss_calibrated": negative_log_likelihood(logits / temperature, self._targets, self._weights),
            "val_accuracy": float(np.mean(logits.argmax(axis=1) == self._targets)),
        }


def _line(epoch: Epoch, epochs: int) -> str:
    names = ("loss", "accuracy", "val_loss", "val_loss_calibrated", "val_accuracy")
    figures = {name: getattr(epoch, name) for name in names}
    shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items() if value is not None)
    return f"{epoch.phase} {epoch.epoch:2d}/{epochs}  {shown}  {epoch.seconds:.1f} s"


class _InterruptCheck(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """Raises Interrupted between two batches if a signal has arrived."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        interrupts.check()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        interrupts.check()


class _ImageProgress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """Calls `advance` with the number of images of each batch."""

    def __init__(self, advance: Callable[[int], None], batch_size: int, images: int) -> None:
        super().__init__()
        self._advance, self._batch_size, self._images = advance, batch_size, images

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # The last batch of an epoch may be smaller.
        self._advance(min(self._batch_size, self._images - batch * self._batch_size))
