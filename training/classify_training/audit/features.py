"""What the network computes of each image of a dataset, kept on disk, so that auditing the same images again is quick.

Labels play no part in it: after images were moved to other labels, or deleted, everything needed is still there.
"""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import keras
import numpy as np
from numpy.typing import NDArray

from classify_serving.contract.text import error_reason
from classify_serving.files import locked, replacing, sha256_if_readable
from classify_training.config import AuditConfig
from classify_training.data.cache import ImageCache
from classify_training.data.dataset import Dataset
from classify_training.evaluation.evaluate import run_on_examples
from classify_training.evaluation.frozen_features import mean_features
from classify_training.model.classifier import Classifier, build_classifier
from classify_training.model.precision import choose_policy
from classify_training.model.standardise import scale_to_some

_log = logging.getLogger(__name__)

_BATCH: Final = 64
_DIGESTS: Final = "digests"
_VERSION: Final = 1
"""Must be increased when the same image, network and options give other features."""

Features = Mapping[str, NDArray[np.float32]]


def features_of(dataset: Dataset, config: AuditConfig) -> Features:
    """Mean features of each image and, where flips are on, of its mirror image.

    They are read from the cache if it has those of every image, else they are computed and written to it; if that
    fails, a warning is logged.

    Returns:
        Name of each of the network's last stages -> float32 [V,N,c] for V variants of the dataset's N examples.

    Raises:
        WeightsError: the pretrained weights cannot be downloaded, read or used.
        Interrupted: a signal arrived.
    """
    policy = choose_policy(config.precision)
    path = _path(config, policy)
    kept = _read(path, dataset)
    if kept is not None:
        return kept
    computed = _compute(dataset, config, policy)
    _write(path, dataset, computed)
    return computed


def _path(config: AuditConfig, policy: str) -> Path:
    """Where the features of this dataset by this network are kept."""
    weights = config.weights if config.weights in {"imagenet", "random"} else sha256_if_readable(Path(config.weights))
    parts = (_VERSION, keras.__version__, weights, config.flip, policy, config.data.seed)
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
    data = config.data
    return ImageCache(data.cache, data.dataset, data.image_size, data.resize).folder / f"features-{name}.npz"


def _read(path: Path, dataset: Dataset) -> Features | None:
    """The features of the dataset's examples, if all of them are there."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            stages = {name: arrays[name] for name in arrays.files if name != _DIGESTS}
            places = {digest: place for place, digest in enumerate(arrays[_DIGESTS].tolist())}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    wanted = [places.get(example.digest, -1) for example in dataset.examples]
    if -1 in wanted:
        return None
    return {name: features[:, wanted] for name, features in stages.items()}


def _write(path: Path, dataset: Dataset, features: Features) -> None:
    arrays: dict[str, Any] = {_DIGESTS: np.array([example.digest for example in dataset.examples]), **features}
    try:
        with locked(path.parent, wait=True), replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        _log.warning("the next audit will take as long as this one: cannot keep %s (%s)", path, error_reason(error))


def _compute(dataset: Dataset, config: AuditConfig, policy: str) -> Features:
    everything = np.arange(len(dataset.examples))
    classifier = build_classifier(2, config.data.image_size, config.weights, policy=policy, seed=config.data.seed)
    scale_to_some(classifier, dataset, everything, config.data.seed)
    widths, model = _model(classifier, config.flip)
    found = run_on_examples(model, dataset, everything, _BATCH, "Features of all images", config.quiet)
    variants = np.stack(np.split(found, 2 if config.flip else 1, axis=1))
    by_stage = np.split(variants, np.cumsum(list(widths.values()))[:-1], axis=2)
    return dict(zip(widths, by_stage, strict=True))


def _model(classifier: Classifier, flip: bool) -> tuple[dict[str, int], keras.Model]:
    widths, means = mean_features(classifier)
    features = keras.Model(classifier.backbone.inputs, means)

    def of_variants(preprocessed: keras.KerasTensor) -> keras.KerasTensor:
        variants = [preprocessed, *([keras.ops.flip(preprocessed, axis=2)] if flip else [])]
        return keras.ops.concatenate([features(variant) for variant in variants], axis=1)

    return widths, classifier.on_images(of_variants)
