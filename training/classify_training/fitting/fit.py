"""The phases of training, one after the other, each from the best weights of the one before."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from classify_training import interrupts
from classify_training.config import TrainConfig
from classify_training.data.balance import image_weights
from classify_training.data.plan import Plan
from classify_training.errors import FitError
from classify_training.fitting.calibration import fit_temperature, negative_log_likelihood
from classify_training.fitting.checkpoint import Checkpoint, Epoch, State
from classify_training.fitting.input_pipeline import build_pipeline
from classify_training.fitting.phases import Phase, phase_share
from classify_training.fitting.schedule import Clock, TimeLimit, is_settled, learning_rate, next_step
from classify_training.model.classifier import Classifier, reseed_dropout, set_trainable
from classify_training.progress import add_images, progress_bar, track

_log = logging.getLogger(__name__)


def fit(
    classifier: Classifier,
    plan: Plan,
    config: TrainConfig,
    checkpoint: Checkpoint,
    planned: Sequence[Phase],
    time_left: float = math.inf,
    least_seconds: Callable[[Phase], float] = lambda phase: 0.0,
) -> State:
    """Train the classifier in place, starting from the checkpoint if there is one.

    Afterwards the weights are those with the lowest validation loss; those of a later phase are kept only if their
    loss is lower than the one before it. The loss is compared after temperature scaling, because the exported
    model is scaled too: an epoch with good but overconfident predictions is not a bad one. Without a validation split
    the last weights are kept.

    Args:
        classifier: the model.
        plan: what to train on.
        config: the configuration.
        checkpoint: where progress is stored.
        planned: the phases; a training that is resumed keeps those that it began with.
        time_left: seconds that this may take.
        least_seconds: in which a phase learns something; it may take so many also where its share is smaller.

    Returns:
        The final state, with the history of all epochs.

    Raises:
        CacheError: features of frozen layers cannot be written.
        FitError: the loss became infinite.
        RunError: the checkpoint cannot be written or read.
        Interrupted: a signal arrived; the checkpoint holds all finished epochs.
    """
    state, start = checkpoint.state(), time.monotonic()
    planned = state.planned or tuple(planned)
    state = replace(state, planned=planned)
    if state.history:
        _log.info("resuming after epoch %d of the phase %s", state.epoch, planned[state.phase].name)
    for number, phase in enumerate(planned):
        set_trainable(classifier, phase.unfreeze)
        if number < state.phase:
            continue
        is_begun = state.phase == number and state.epoch > 0
        if not is_begun and state.gain < phase.needed_gain:
            reason = (
                f"left out, because the phase before lowered the validation loss by only {state.gain:.0%}"
                if len(plan.indices("val"))
                else "left out, because there are no validation images to see whether it pays"
            )
            return replace(state, ended=(*state.ended, reason))
        time_limit = TimeLimit(start + time_left, phase_share(number, len(planned)), least_seconds(phase))
        state = _Trainer(classifier, plan, config, number, phase, checkpoint, time_limit).run(state)
    return state


class _Trainer:
    """One phase of a training."""

    def __init__(
        self,
        classifier: Classifier,
        plan: Plan,
        config: TrainConfig,
        number: int,
        phase: Phase,
        checkpoint: Checkpoint,
        time_limit: TimeLimit,
    ) -> None:
        pipeline = build_pipeline(classifier, plan, config, phase.unfreeze)
        self._classifier, self._pipeline, self._plan, self._config = classifier, pipeline, plan, config
        self._number, self._phase, self._checkpoint = number, phase, checkpoint
        self._time_limit, self._clock, self._pass_seconds = time_limit, Clock(), 0.0
        self._steps = -(-len(plan.epoch_examples) // config.fit.batch_size)
        pipeline.model.compile(
            keras.optimizers.Adam(phase.learning_rate),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.fit.label_smoothing),
            metrics=["accuracy"],
            # Keras would choose XLA, which is slower on CPUs than TensorFlow's own kernels.
            jit_compile="auto" if tf.config.list_physical_devices("GPU") else False,
        )
        self._targets = plan.targets[plan.indices("val")]
        self._weights = image_weights(self._targets, len(plan.class_names)) if config.data.is_balanced else None

    def run(self, state: State) -> State:
        """Train to the end of this phase, from a state of this phase or of the one before."""
        state = self._begin(state)
        # From here on, because features that are computed at the start would leave no time to a short phase.
        self._clock = self._time_limit.clock()
        while not isinstance(following := self._next_step(state), str):
            if following.decay != state.decay and len(self._targets):
                self._checkpoint.restore_best(state, self._pipeline.model)
            state = self._epoch(following)
        if len(self._targets):
            self._checkpoint.restore_best(state, self._pipeline.model)
            kept = f"epoch {state.best_epoch} of {state.epoch}" if state.best_epoch else "the weights before it"
            decayed = state.decay.epochs if state.decay else 0
            then = f"; the learning rate then fell to 0 over {decayed} epochs" if decayed else ""
            _log.info("%s: kept %s; it ended because %s%s", self._phase.name, kept, following, then)
        return replace(state, ended=(*state.ended, following))

    def _begin(self, state: State) -> State:
        """Load the weights that this phase goes on from, or take those at its start as its best ones so far."""
        is_begun = state.phase == self._number
        if is_begun and state.epoch:
            self._checkpoint.restore_last(state, self._pipeline.model)
            return state
        if is_begun and state.history:
            # Killed before the first epoch of this phase ended: it starts from the best weights so far.
            self._checkpoint.restore_best(state, self._pipeline.model)
            return state
        self._compute(0)
        state = State(phase=self._number, history=state.history, ended=state.ended, planned=state.planned)
        if len(self._targets):
            loss = self._validate()["val_loss_calibrated"]
            state = replace(state, best_loss=loss, start_loss=loss)
            self._checkpoint.save(state, self._pipeline.model)
        return state

    def _next_step(self, state: State) -> State | str:
        return next_step(self._config.fit, self._phase, state, bool(len(self._targets)), self._clock)

    def _epoch(self, state: State) -> State:
        start, images = time.monotonic(), len(self._plan.epoch_examples)
        self._compute(state.epoch)
        # From the seed and the epoch's number only, so that a resumed training draws the same dropout.
        reseed_dropout(self._classifier, (self._config.data.seed, self._number, state.epoch))
        name = f"{self._phase.name}, epoch {state.epoch + 1}"
        with progress_bar(self._config.quiet) as bar:
            task = add_images(bar, name, images)
            batches = self._pipeline.epoch(state.epoch)
            rates = _LearningRate(lambda place: self._rate(state, place), self._steps, self._clock)
            progress = _ImageProgress(lambda number: bar.advance(task, number), self._config.fit.batch_size, images)
            fitted = self._pipeline.model.fit(
                batches, callbacks=[progress, rates, _InterruptCheck()], shuffle=False, verbose=0
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
        loss, lowest = done.val_loss_calibrated, state.best_loss
        is_lowest = loss is None or lowest is None or loss < lowest
        if is_lowest or is_settled(state):
            state = replace(state, best_epoch=done.epoch, best_loss=done.val_loss_calibrated)
        self._checkpoint.save(state, self._pipeline.model)
        _log.info("%s", _line(done))
        return state

    def _rate(self, state: State, place: float) -> float:
        rate = learning_rate(self._config.fit, self._phase, state, place)
        return rate * self._clock.rate_share() if self._config.fit.schedule == "plateau" else rate

    def _compute(self, number: int) -> None:
        """Compute the features that an epoch needs, if there is time to compute and to use them."""
        is_late = time.monotonic() + 2 * self._pass_seconds > self._clock.end
        if self._pass_seconds and is_late and self._pipeline.missing(number):
            self._pipeline.compute_no_more()
        if missing := self._pipeline.missing(number):
            start = time.monotonic()
            batches, name = self._pipeline.compute(number), "Caching features of frozen layers"
            for _ in track(batches, missing, name, self._config.quiet, images=int):
                pass
            self._pass_seconds = time.monotonic() - start

    def _validate(self) -> dict[str, float]:
        logits = self._pipeline.model.predict(self._pipeline.validation(), callbacks=[_InterruptCheck()], verbose=0)
        temperature = fit_temperature(logits, self._targets, self._weights)
        return {
            "val_loss": negative_log_likelihood(logits, self._targets, self._weights),
            "val_loss_calibrated": negative_log_likelihood(logits / temperature, self._targets, self._weights),
            "val_accuracy": float(np.mean(logits.argmax(axis=1) == self._targets)),
        }


def _line(epoch: Epoch) -> str:
    names = ("loss", "accuracy", "val_loss", "val_loss_calibrated", "val_accuracy")
    figures = {name: getattr(epoch, name) for name in names}
    shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items() if value is not None)
    return f"{epoch.phase} {epoch.epoch:2d}  {shown}  {epoch.seconds:.1f} s"


class _InterruptCheck(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """Raises Interrupted between two batches if a signal has arrived."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        interrupts.check()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        interrupts.check()


class _LearningRate(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """Sets the learning rate before every batch, and ends an epoch when the time is used up.

    Args:
        rate: finished share of the epoch, 0-1 -> learning rate.
        batches: batches in an epoch.
        clock: the time that the phase may take.
    """

    def __init__(self, rate: Callable[[float], float], batches: int, clock: Clock) -> None:
        super().__init__()
        self._rate, self._batches, self._clock = rate, batches, clock

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        # The middle of the batch, so that neither a warm-up nor a decay has a step of rate 0.
        self.model.optimizer.learning_rate = self._rate((batch + 0.5) / self._batches)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.stop_training = self._clock.is_over()


class _ImageProgress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras is untyped
    """Calls `advance` with the number of images of each batch."""

    def __init__(self, advance: Callable[[int], None], batch_size: int, images: int) -> None:
        super().__init__()
        self._advance, self._batch_size, self._images = advance, batch_size, images

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # The last batch of an epoch may be smaller.
        self._advance(min(self._batch_size, self._images - batch * self._batch_size))
