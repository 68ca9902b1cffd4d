"""One training from a dataset to a SavedModel version."""

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_serving.contract.model import SCHEMA_VERSION, ModelMetadata
from classify_serving.contract.versions import newest_version
from classify_serving.exchange.label_scores import LABEL_SCORES_FILE
from classify_serving.exchange.review import CONFIRMED, ReviewError, read_confirmed
from classify_serving.exchange.train_embeddings import RUN_FILE
from classify_serving.exchange.train_manifest import TRAIN_MANIFEST_FILE
from classify_training import interrupts
from classify_training.audit.training_labels import TrainingLabels, judge_training_labels
from classify_training.config import AUTO, TrainConfig
from classify_training.data.plan import Plan
from classify_training.evaluation.baseline import Baseline, fit_baseline
from classify_training.evaluation.evaluate import Evaluation, evaluate
from classify_training.evaluation.frozen_features import FrozenFeatures, compute_features
from classify_training.evaluation.remarks import Remark, make_remarks
from classify_training.evaluation.train_manifest import train_manifest
from classify_training.export.model_folder import locked_model_folder
from classify_training.export.saved_model import export, remove_leftovers
from classify_training.export.signatures import Signatures
from classify_training.fitting.checkpoint import State
from classify_training.fitting.estimate import EpochCosts, affordable, check_budget, estimate
from classify_training.fitting.fit import fit
from classify_training.fitting.phases import Transferability, plan_phases
from classify_training.model.classifier import Classifier, add_head, build_classifier, in_float32
from classify_training.model.precision import choose_policy
from classify_training.model.standardise import scale_to_some, standardise_head
from classify_training.progress import stage
from classify_training.run_page.write import RunFacts
from classify_training.runs import Run, open_run

_EXPORT_SECONDS: Final = 15.0
_FLOAT32_SLOWER: Final = 2.0
"""A network computes half as many images a second in float32 as in bfloat16 (measured on a CPU, docs/benchmarks.md)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Attributes:
        path: folder of the exported version.
        run: folder of the run.
        metadata: metadata of the model.
        evaluation: metrics on the test split.
        remarks: what to know about this training, the most important first.
        baseline: what a linear classifier reaches on the network before training.
    """

    path: Path
    run: Path
    metadata: ModelMetadata
    evaluation: Evaluation
    remarks: Sequence[Remark]
    baseline: Baseline


def train(
    plan: Plan,
    config: TrainConfig,
    on_published: Callable[[Trained], None] = lambda trained: None,
    started: float | None = None,
) -> Trained:
    """Fit a model to the plan, evaluate it and export it as the next version below `config.output`.

    A killed run of the same configuration and dataset is resumed. The exported model computes in float32, whatever
    it was trained in, so that it gives the same answers on every machine; this model is the one that is evaluated. The
    version appears last, when all files of the run are written.

    Args:
        plan: what to train on.
        config: the configuration.
        on_published: called after the version has appeared; if the process is killed before it returns, the same
            command knows that the version was published.
        started: when the command started, by `time.monotonic`; the time budget counts from then. None for now.

    Raises:
        CacheError: features of frozen layers cannot be stored.
        FitError: the training diverged.
        TimeBudgetError: the time budget leaves no time to train.
        RunError: the run's folder cannot be written.
        WeightsError: the pretrained weights cannot be downloaded, read or used.
        ExportError: the version cannot be written, or differs from the trained model.
        Interrupted: a signal arrived before the version was published.
    """
    start = time.monotonic() if started is None else started
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
            classifier, baseline, features = _prepare(classifier, plan, config, policy)
            image_seconds = features.seconds
            after = _seconds_after(plan, policy, image_seconds)
            time_left = _time_left(config, after, start)
            transfer = Transferability(baseline.best_stage, baseline.is_solved)
            costs = EpochCosts(classifier, plan, config, image_seconds)
            phases = run.checkpoint.state().planned
            if not phases:
                planned = plan_phases(config.fit, classifier.network, transfer)
                phases = affordable(planned, config.fit, costs, time_left)
                if left_out := [phase.name for phase in planned if phase not in phases]:
                    _log.info("the time budget has no room for these phases: %s", ", ".join(left_out))
                with run.removed_on_error():
                    check_budget(phases, config.fit, costs, time_left)
            if not run.checkpoint.state().history:
                for line in estimate(phases, config.fit, costs, time.monotonic() - start + after):
                    _log.info("%s", line)
            state = fit(
                classifier,
                plan,
                config,
                run.checkpoint,
                phases,
                time_left,
                lambda phase: costs.first_epochs(phase.unfreeze),
            )
        seconds = {"epochs": sum(epoch.seconds for epoch in state.history), "fit": time.monotonic() - start}
        with interrupts.deferred():
            run.write_history(state.history)
            final = classifier if policy == "float32" else in_float32(classifier)
            evaluation = evaluate(final.model, plan, config.fit.batch_size, config.quiet)
            run.write_train_embeddings(final, plan, config.quiet)
            remarks = make_remarks(plan, config, evaluation, baseline, state)
            about = _about(policy, state, seconds) | {
                "baseline": _about_baseline(baseline, evaluation),
                "remarks": [asdict(remark) for remark in remarks],
            }
            # A time budget is for the training.
            wants_scores = not config.fit.time_budget
            labels = judge_training_labels(features, plan, config.data.seed, config.quiet) if wants_scores else None
            facts = RunFacts(
                plan=plan,
                config=config,
                state=state,
                evaluation=evaluation,
                baseline=baseline,
                remarks=remarks,
                labels=labels,
                confirmed=_confirmed(plan),
            )
            path, metadata = _publish(final, facts, run, about, start, _extras(plan, config, labels, run))
            trained = Trained(path, run.folder, metadata, evaluation, remarks, baseline)
            on_published(trained)
            run.finish()
    return trained


def _prepare(
    classifier: Classifier, plan: Plan, config: TrainConfig, policy: str
) -> tuple[Classifier, Baseline, FrozenFeatures]:
    """Scale the network to these images, see what its features are good for, and give it the head that takes them.

    Returns:
        The classifier, the linear baseline, and the features that the network computes of the images.
    """
    if config.fit.standardise:
        scale_to_some(classifier, plan.dataset, plan.indices("train"), config.data.seed)
    features = compute_features(classifier, plan, config.fit.batch_size, config.data.seed, config.quiet)
    baseline = fit_baseline(features, plan, config.data.seed, config.data.is_balanced, config.quiet)
    _log.info(
        "linear baseline on the network before training: accuracy %.1f%% in cross-validation on %d training images",
        100 * baseline.accuracy,
        baseline.images,
    )
    if config.fit.head_features == AUTO and not baseline.needs_earlier_stages:
        classifier = add_head(
            classifier.network,
            classifier.backbone,
            len(plan.class_names),
            **_head_options(config, policy) | {"head_features": "last"},
        )
    standardise_head(classifier, features.train_means, features.squares)
    return classifier, baseline, features


def _seconds_after(plan: Plan, policy: str, image_seconds: float) -> float:
    """Seconds of what comes after the fit: it is done once for each image, in float32, and then exported."""
    slower = 1.0 if policy == "float32" else _FLOAT32_SLOWER
    return slower * image_seconds * len(plan.targets) + _EXPORT_SECONDS


def _time_left(config: TrainConfig, after: float, start: float) -> float:
    """Seconds that the fit may take, with `after` seconds for what comes after it."""
    return start + config.fit.time_budget - after - time.monotonic() if config.fit.time_budget else math.inf


def _about(policy: str, state: State, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Other entries of `metrics.json`; the seconds of the epochs include processes that were killed."""
    return {
        "precision": policy,
        "epochs": len(state.history),
        "kept": {"phase": kept.phase, "epoch": kept.epoch} if (kept := state.kept) else None,
        "ended": list(state.ended),
        "seconds": seconds,
    }


def _about_baseline(baseline: Baseline, evaluation: Evaluation) -> dict[str, Any]:
    """The entry `baseline` of `metrics.json`."""
    return {
        "train_images": baseline.images,
        "accuracy": baseline.accuracy,
        "recall": baseline.recall,
        "best_stage": baseline.best_stage,
        "log_losses": dict(baseline.log_losses),
        "learning_curve": [{"images": images, "accuracy": accuracy} for images, accuracy in baseline.learning_curve],
        "test": asdict(baseline.compare(evaluation)),
    }


def _build(plan: Plan, config: TrainConfig, policy: str) -> Classifier:
    return build_classifier(
        len(plan.class_names),
        config.data.image_size,
        config.fit.weights,
        **_head_options(config, policy),
    )


def _head_options(config: TrainConfig, policy: str) -> dict[str, Any]:
    """The arguments that `build_classifier` and `add_head` have in common."""
    return {
        "head_features": config.fit.head_features,
        "standardise": config.fit.standardise,
        "output_init": config.fit.output_init,
        "policy": policy,
        "seed": config.data.seed,
    }


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
    facts: RunFacts,
    run: Run,
    about: Mapping[str, Any],
    start: float,
    extras: Mapping[str, bytes],
) -> tuple[Path, ModelMetadata]:
    """Export the next version, one training at a time, so that two that end together get different numbers.

    The files about the run are completed just before the version appears; `start` is the time when the training began.
    """
    plan, config, evaluation = facts.plan, facts.config, facts.evaluation
    with locked_model_folder(config.output, config.quiet) as folder:
        metadata = _metadata(plan, config, evaluation, newest_version(folder) + 1)
        model = {"model": metadata.model_name, "version": metadata.model_version}

        def complete_run(written: Path) -> None:
            seconds = {**about["seconds"], "total": time.monotonic() - start}
            run.write_evaluation(evaluation, plan, {**model, **about, "seconds": seconds})
            run.write_page(facts, f"{metadata.model_name} {metadata.model_version}", seconds["total"])
            run.record_publishing(metadata.model_version, written)

        with stage("Exporting and verifying the model", config.quiet):
            signatures = Signatures(classifier, metadata)
            path = export(signatures, _verification_images(plan), folder, extras, complete_run)
    return path, metadata


def _extras(plan: Plan, config: TrainConfig, labels: TrainingLabels | None, run: Run) -> dict[str, bytes]:
    """Files that a version has besides the model: what it was trained on, what may be wrong there, and its run."""
    # The same from every version's folder; relative, so that models and runs can be moved together.
    way = os.path.relpath(run.folder.resolve(), config.output.resolve() / "1")
    extras = {TRAIN_MANIFEST_FILE: train_manifest(plan), RUN_FILE: way.encode("utf-8", "surrogateescape")}
    return extras | ({LABEL_SCORES_FILE: labels.csv()} if labels else {})


def _confirmed(plan: Plan) -> Collection[tuple[str, str]]:
    """The labels of the dataset that a person has confirmed."""
    try:
        return read_confirmed(plan.dataset.root / CONFIRMED)
    except ReviewError as error:
        _log.warning("%s", error)
        return frozenset()


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
