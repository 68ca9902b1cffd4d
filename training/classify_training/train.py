"""One training from a dataset to a SavedModel version."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from classify_serving.contract import SCHEMA_VERSION, ModelMetadata
from classify_training.config import TrainConfig
from classify_training.dataset import fingerprint
from classify_training.evaluate import Evaluation, evaluate
from classify_training.export import export, next_version, remove_leftovers
from classify_training.fit import fit
from classify_training.model import build_classifier
from classify_training.plan import Plan


@dataclass(frozen=True)
class Trained:
    """What a training came to: the version's folder, its metadata, and the marks on the test split."""

    path: Path
    metadata: ModelMetadata
    evaluation: Evaluation


def train(plan: Plan, config: TrainConfig) -> Trained:
    """Fit a model to the plan, evaluate it and export it as the next version below `config.output`.

    Raises:
        WeightsError: the pretrained weights cannot be had.
        ExportError: the version cannot be written, or is not what was trained.
    """
    keras.utils.set_random_seed(config.data.seed)
    remove_leftovers(config.output)
    classifier = build_classifier(len(plan.class_names), config.data.size, config.fit.weights, seed=config.data.seed)
    fit(classifier, plan, config)
    evaluation = evaluate(classifier.model, plan, config.fit.batch_size)
    metadata = _metadata(plan, config, evaluation)
    path = export(classifier, metadata, _verification_images(plan), config.output)
    return Trained(path, metadata, evaluation)


def _metadata(plan: Plan, config: TrainConfig, evaluation: Evaluation) -> ModelMetadata:
    return ModelMetadata(
        schema_version=SCHEMA_VERSION,
        model_name=config.output.resolve().name,
        model_version=next_version(config.output),
        class_names=plan.class_names,
        merges=dict(plan.merges),
        image_size=config.data.size,
        resize=config.data.resize,
        precision="float32",
        train_counts_before=plan.folder_counts("train"),
        train_counts_after=plan.epoch_counts(),
        test_metrics=evaluation.metrics,
        dataset_fingerprint=fingerprint(plan.dataset.examples),
        tensorflow_version=tf.__version__,
        keras_version=keras.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _verification_images(plan: Plan) -> NDArray[np.uint8]:
    """Up to 32 images, of the splits that were not trained on where there are any."""
    unseen = np.concatenate([plan.indices("test"), plan.indices("val"), plan.indices("train")])
    images: NDArray[np.uint8] = plan.dataset.images[unseen[:32]]
    return images
