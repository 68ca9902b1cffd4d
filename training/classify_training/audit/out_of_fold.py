"""How probable each label of an image is, by models that were not fitted to this image.

Logistic regression and nearest neighbours see an image in different ways; where both doubt its label, it is most often
wrong. That labels can be judged by such out-of-fold probabilities is shown by Northcutt, Jiang and Chuang ("Confident
Learning", 2021); the two models, their weights and their parameters were chosen on three datasets with mistakes that
were made on purpose (docs/benchmarks.md).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from classify_training.data.folds import deal_folds
from classify_training.evaluation.logistic_regression import fit_regression

UNKNOWN: Final = -1
"""In place of a label: it is not known, so nothing is fitted to the image, and no neighbour is judged by it."""

_FOLDS: Final = 5
_REPEATS: Final = 2
_STRENGTHS: Final = (0.01, 0.03, 0.1)
"""Inverse strengths of regularisation, for standardised features."""
_MOST_COMPARED: Final = 3000
"""Images with which the choice of features and strength is made; more would take longer and change it little."""

_NEIGHBOURS: Final = 20
_SHARPNESS: Final = 10.0
"""A neighbour's vote is exp(`_SHARPNESS` (its similarity - that of the nearest one))."""
_FLOOR: Final = 0.02
"""Least probability of a class by its neighbours; the few of them are no evidence against a class that has none."""
_LEAST: Final = 1e-6
_CHUNK: Final = 1024

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The features and the regularisation with which logistic regression predicts the labels best.

    Attributes:
        stage: the stage of the network whose features these are.
        strength: inverse strength of regularisation.
    """

    stage: str
    strength: float


@dataclass(frozen=True)
class ImageSet:
    """N images whose labels are judged.

    Attributes:
        features: name of each stage -> float32 [V,N,c], its mean features of V variants of each image, such as the
            image and its mirror image.
        labels: int64 [N], index of each image's label, or `UNKNOWN`.
        groups: int64 [N], equal for near-duplicates, which do not judge each other.
        classes: number C of labels.
    """

    features: Mapping[str, Features]
    labels: Labels
    groups: NDArray[np.int64]
    classes: int

    def vectors(self, stage: str) -> Features:
        """float32 [N,c], mean features over the variants, each of length 1."""
        means = self.features[stage].mean(axis=0)
        vectors: Features = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return vectors


def choose(images: ImageSet, seed: int) -> Choice:
    """Choose features and strength by the lowest cross-validated log loss on the labels as they are."""
    known = np.flatnonzero(images.labels != UNKNOWN)
    some = np.sort(np.random.default_rng(seed).permutation(known)[:_MOST_COMPARED])
    sample = ImageSet(
        {stage: features[:, some] for stage, features in images.features.items()},
        images.labels[some],
        images.groups[some],
        images.classes,
    )
    choices = [Choice(stage, strength) for stage in sample.features for strength in _STRENGTHS]
    return min(choices, key=lambda choice: _log_loss(sample, choice, seed))


def _log_loss(images: ImageSet, choice: Choice, seed: int) -> float:
    logs = _regression(images, choice, seed)
    return -float(logs[np.arange(len(logs)), images.labels].mean())


def out_of_fold_probabilities(images: ImageSet, choice: Choice, seed: int) -> Floats:
    """Probability of each label for each image, float64 [N,C].

    Two parts of logistic regression, averaged over several ways to deal the images into folds, and one part of nearest
    neighbours.
    """
    logs = np.mean([_regression(images, choice, seed + number) for number in range(_REPEATS)], axis=0)
    probabilities: Floats = (2 * softmax(logs, axis=1) + _neighbour_probabilities(images, choice.stage)) / 3
    return probabilities


def _regression(images: ImageSet, choice: Choice, seed: int) -> Floats:
    """Log probabilities, float64 [N,C], each by a regression that was not fitted to the image or its near-duplicates.

    Those of an image with an unknown label are the mean over the regressions of all folds.
    """
    features, labels = images.features[choice.stage], images.labels
    known = labels != UNKNOWN
    folds = np.full(len(labels), UNKNOWN)
    folds[known] = deal_folds(labels[known], images.groups[known], seed, _FOLDS)
    logs = np.zeros((len(labels), images.classes))
    for fold in range(_FOLDS):
        used, asked = known & (folds != fold), ~known | (folds == fold)
        if asked.any():
            logs[asked] += _fit_and_predict(features, labels, used, asked, images.classes, choice.strength)
    logs[~known] /= _FOLDS
    normalised: Floats = np.log(np.maximum(softmax(logs, axis=1), _LEAST))
    return normalised


def _fit_and_predict(
    features: Features, labels: Labels, used: NDArray[np.bool_], asked: NDArray[np.bool_], classes: int, strength: float
) -> Floats:
    """Log probabilities of the asked images, the mean over their variants; fitted to those of the used images."""
    logs = np.full((int(asked.sum()), classes), np.log(_LEAST))
    present = np.unique(labels[used])
    if len(present) < 2:
        logs[:, present] = 0
        return logs
    regression = fit_regression(np.concatenate(list(features[:, used])), np.tile(labels[used], len(features)), strength)
    found = [regression.predict_proba(each) for each in features[:, asked]]
    logs[:, regression.classes_] = np.mean([np.log(np.maximum(each, _LEAST)) for each in found], axis=0)
    return logs


def _neighbour_probabilities(images: ImageSet, stage: str) -> Floats:
    """Votes of the most similar other images by cosine similarity, float64 [N,C]."""
    votes = np.zeros((len(images.labels), images.classes))
    for rows, similarities in similarity_chunks(images, stage):
        nearest = np.argsort(-similarities, axis=1)[:, :_NEIGHBOURS]
        close = np.take_along_axis(similarities, nearest, axis=1)
        weights = np.exp(_SHARPNESS * (close - np.maximum(close[:, :1], -1)))
        for place, row in enumerate(rows):
            np.add.at(votes[row], images.labels[nearest[place]], weights[place])
    shares = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1e-12)
    floored = np.maximum(shares, _FLOOR)
    probabilities: Floats = floored / floored.sum(axis=1, keepdims=True)
    return probabilities


def similarity_chunks(images: ImageSet, stage: str) -> Iterator[tuple[NDArray[np.int64], Features]]:
    """Cosine similarities of all images, some rows at a time.

    Yields:
        int64 [M], numbers of images; and float32 [M,N], their similarities to all images: -infinity for an image
        itself, for its near-duplicates, and for images whose label is unknown.
    """
    vectors = images.vectors(stage)
    unknown = images.labels == UNKNOWN
    for start in range(0, len(vectors), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(vectors)))
        similarities = vectors[rows] @ vectors.T
        similarities[images.groups[rows, None] == images.groups[None]] = -np.inf
        similarities[:, unknown] = -np.inf
        yield rows, similarities
