"""One training from a dataset to a SavedModel version."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_serving.contract.model import SCHEMA_VERSION, ModelMetadata
from classify_serving.contract.text import error_reason
from classify_serving.contract.versions import newest_version
from classify_serving.exchange.train_manifest import TRAIN_MANIFEST_FILE
from classify_serving.files import locked
from classify_training import interrupts
from classify_training.config import TrainConfig
from classify_training.data.plan import Plan
from classify_training.errors import ExportError
from classify_training.evaluation.baseline import Baseline, fit_baseline
from classify_training.evaluation.evaluate import Evaluation, evaluate
from classify_training.evaluation.train_manifest import train_manifest
from classify_training.export.saved_model import export, remove_leftovers
from classify_training.fitting.checkpoint import State
from classify_training.fitting.fit import fit
from classify_training.model.classifier import Classifier, build_classifier, in_float32
from classify_training.model.precision import choose_policy
from classify_training.progress import stage
from classify_training.runs import Run, open_run

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Attributes:
        path: folder of the exported version.
        run: folder of the run.
        metadata: metadata of the model.
        evaluation: metrics on the test split.
        baseline: what a linear classifier reaches on the pretrained network; None with random weights.
    """

    path: Path
    run: Path
    metadata: ModelMetadata
    evaluation: Evaluation
    baseline: Baseline | None = None


def train(plan: Plan, config: TrainConfig, on_published: Callable[[Trained], None] = lambda trained: None) -> Trained:
    """Fit a model to the plan, evaluate it and export it as the next version below `config.output`.

    A killed run of the same configuration and dataset is resumed. The exported model computes in float32, whatever
    it was trained in, so that it gives the same answers on every machine; this model is the one that is evaluated. The
    version appears last, when all files of the run are written.

    Args:
        plan: what to train on.
        config: the configuration.
        on_published: called after the version has appeared; if the process is killed before it returns, the same
            command knows that the version was published.

    Raises:
        CacheError: features of frozen layers cannot be stored.
        FitError: the training diverged.
        RunError: the run's folder cannot be written.
        WeightsError: the pretrained weights cannot be downloaded, read or used.
        ExportError: the version cannot be written, or differs from the trained model.
        Interrupted: a signal arrived before the version was published.
    """
    start = time.monotonic()
    keras.utils.set_random_seed(config.data.seed)
    remove_leftovers(config.output)
    policy = choose_policy(config.fit.precision)
    scope = _strategy_scope()
    # Before the run's folder is made: weights that cannot be used leave no run. It may wait for a download.
    with scope(), interrupts.at_once(), stage("Loading the weights", config.quiet):
        classifier = _build(plan, config, policy)
    with open_run(config, plan.fingerprint) as run:
        _log.info("computing in %s; files of this run: %s", policy, run.folder)
        run.write_left_out(plan)
        with scope(), interrupts.deferred():
            baseline = _fit_baseline(classifier, plan, config)
            state = fit(classifier, plan, config, run.checkpoint)
        seconds = {"epochs": sum(epoch.seconds for epoch in state.history), "fit": time.monotonic() - start}
        with interrupts.deferred():
            run.write_history(state.history)
            final = classifier if policy == "float32" else in_float32(classifier)
            evaluation = evaluate(final.model, plan, config.fit.batch_size, config.quiet)
            run.write_train_embeddings(final, plan, config.quiet)
            about = _about(policy, state, seconds) | {"baseline": _about_baseline(baseline, evaluation)}
            trained = replace(_publish(final, plan, config, run, evaluation, about, start), baseline=baseline)
            on_published(trained)
            run.finish()
    return trained


def _about(policy: str, state: State, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Other entries of `metrics.json`; the seconds of the epochs include processes that were killed."""
    return {
        "precision": policy,
        "epochs": len(state.history),
        "kept": {"phase": state.history[-1].phase if state.history else None, "epoch": state.best_epoch},
        "ended": list(state.ended),
        "seconds": seconds,
    }


def _fit_baseline(classifier: Classifier, plan: Plan, config: TrainConfig) -> Baseline | None:
    """Fit the linear baseline; None with random weights, whose features mean nothing yet."""
    if config.fit.weights == "random":
        return None
    baseline = fit_baseline(classifier, plan, config.fit.batch_size, config.data.seed, config.quiet)
    _log.info(
        "linear baseline on the pretrained network: accuracy %.1f%% in cross-validation on %d training images",
        100 * baseline.accuracy,
        baseline.images,
    )
    return baseline


def _about_baseline(baseline: Baseline | None, evaluation: Evaluation) -> dict[str, Any] | None:
    """The entry `baseline` of `metrics.json`."""
    if not baseline:
        return None
    losses = {"train_images": baseline.images, "accuracy": baseline.accuracy, "log_losses": dict(baseline.log_losses)}
    return losses | {"test": asdict(baseline.compare(evaluation))}


def _build(plan: Plan, config: TrainConfig, policy: str) -> Classifier:
    return build_classifier(
        len(plan.class_names),
        config.data.image_size,
        config.fit.weights,
        output_init=config.fit.output_init,
        policy=policy,
        seed=config.data.seed,
    )


def _strategy_scope() -> Callable[[], contextlib.AbstractContextManager[object]]:
    """If this machine has several GPUs, use all of them; each gets a copy of the model and a part of every batch.

    Returns:
        A function that opens the scope in which a model is built and trained.
    """
    if len(tf.config.list_logical_devices("GPU")) < 2:
        return contextlib.nullcontext
    scope: Callable[[], contextlib.AbstractContextManager[object]] = tf.distribute.MirroredStrategy().scope
    return scope


def _publish(
    classifier: Classifier,
    plan: Plan,
    config: TrainConfig,
    run: Run,
    evaluation: Evaluation,
    about: Mapping[str, Any],
    start: float,
) -> Trained:
    """Export the next version, one training at a time, so that two that end together get different numbers.

    The files about the run are completed just before the version appears; `start` is the time when the training began.
    """
    with _model_folder(config.output, config.quiet) as folder:
        metadata = _metadata(plan, config, evaluation, newest_version(folder) + 1)
        model = {"model": metadata.model_name, "version": metadata.model_version}

        def complete_run(written: Path) -> None:
            seconds = {**about["seconds"], "total": time.monotonic() - start}
            run.write_evaluation(evaluation, plan, {**model, **about, "seconds": seconds})
            run.record_publishing(metadata.model_version, written)

        extras = {TRAIN_MANIFEST_FILE: train_manifest(plan)}
        with stage("Exporting and verifying the model", config.quiet):
            path = export(classifier, metadata, _verification_images(plan), folder, extras, complete_run)
    return Trained(path, run.folder, metadata, evaluation)


@contextlib.contextmanager
def _model_folder(folder: Path, quiet: bool) -> Iterator[Path]:
    """Create a model's folder if needed, and keep other trainings from exporting to it."""
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(folder))
            except BlockingIOError:
                _log.info("waiting for another training that exports to %s", folder)
                with interrupts.at_once(), stage("Waiting for the other training", quiet):
                    stack.enter_context(locked(folder, wait=True))
        except OSError as error:
            raise ExportError(
                f"cannot write to {folder} ({error_reason(error)}): check permissions, or choose another --output"
            ) from error
        yield folder


def _metadata(plan: Plan, config: TrainConfig, evaluation: Evaluation, version: int) -> ModelMetadata:
    return ModelMetadata(
        schema_version=SCHEMA_VERSION,
        model_name=config.output.resolve().name,
        model_version=version,
        class_names=plan.class_names,
        merges=dict(plan.merges),
        image_size=config.data.image_size,
        resize=config.data.resize,
        precision="float32",
        temperature=evaluation.temperature,
        train_counts_before=plan.folder_counts("train"),
        train_counts_after=plan.epoch_counts(),
        test_metrics=evaluation.metrics(),
        dataset_fingerprint=plan.fingerprint,
        tensorflow_version=tf.__version__,
        keras_version=keras.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _verification_images(plan: Plan) -> NDArray[np.uint8]:
    """Up to 32 images, uint8 [N,S,S,3] RGB, from the test and validation splits first."""
    unseen = np.concatenate([plan.indices("test"), plan.indices("val"), plan.indices("train")])
    return plan.dataset.pixels(unseen[:32])
