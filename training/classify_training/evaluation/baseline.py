"""The simplest classifier on the network before training: logistic regression on the mean features of its last stages.

It costs seconds. It shows what a training must at least reach, which stage describes these images best, and whether
more images would help.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from classify_training.data.balance import image_weights
from classify_training.data.folds import deal_folds
from classify_training.data.plan import Plan
from classify_training.evaluation.evaluate import Evaluation
from classify_training.evaluation.frozen_features import Features, FrozenFeatures
from classify_training.evaluation.logistic_regression import fit_regression
from classify_training.progress import stage

_FOLDS: Final = 3
_STRENGTHS: Final = (0.003, 0.01, 0.03, 0.1)
"""Inverse strengths of regularisation, for standardised features."""

_SHARES: Final = (0.25, 0.5, 0.75, 1.0)
_SOLVED: Final = 0.995
_CHANCE: Final = 0.05
_LEAST: Final = 1e-7
_UNKNOWN: Final = -1

Targets = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What logistic regression reaches on the features of the network before it was trained.

    Attributes:
        images: number of training images it was fitted to.
        accuracy: cross-validated on these images, 0-1, with the features of the last three stages together.
        recall: the same, as the mean over the classes of the share that is right.
        log_losses: name of a stage -> cross-validated log loss in nats with its features alone, with equal weight for
            each class if training is balanced.
        log_loss: the same with the features of these stages together.
        best_stage: the stage whose features alone predict best; the last one if no other one is better by more than the
            uncertainty of the difference, or if there are too few images to know.
        learning_curve: (number of training images, cross-validated accuracy in 0-1) for more and more of the images.
        tested: int64 [T], the test images that it classified.
        predicted: int64 [T], the predicted classes.
    """

    images: int
    accuracy: float
    recall: float
    log_losses: Mapping[str, float]
    log_loss: float
    best_stage: str
    learning_curve: tuple[tuple[int, float], ...]
    tested: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @property
    def needs_earlier_stages(self) -> bool:
        """Whether the last stage alone predicts worse than all of them together."""
        *_, last = self.log_losses.values()
        return self.log_loss < last

    @property
    def is_solved(self) -> bool:
        """Whether nearly nothing is left to be gained by fine-tuning the network, in any class."""
        return min(self.accuracy, self.recall) >= _SOLVED

    def compare(self, evaluation: Evaluation) -> "Comparison":
        """Count the right answers of this baseline and of the trained model on the same test images."""
        places = np.searchsorted(evaluation.indices, self.tested)
        targets = evaluation.targets[places]
        baseline, model = self.predicted == targets, evaluation.predicted[places] == targets
        return Comparison(
            images=len(places),
            baseline=int(baseline.sum()),
            model=int(model.sum()),
            only_baseline=int((baseline & ~model).sum()),
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Right answers of the baseline and of the trained model.

    Attributes:
        images: number of test images.
        baseline: how many the baseline classifies correctly.
        model: how many the model classifies correctly.
        only_baseline: how many the baseline classifies correctly and the model does not.
    """

    images: int
    baseline: int
    model: int
    only_baseline: int

    @property
    def is_below(self) -> bool:
        """Whether the model is worse than the baseline."""
        return self.model < self.baseline

    @property
    def may_be_chance(self) -> bool:
        """Whether so large a difference is not unlikely between equally good models (McNemar's exact test)."""
        differing = 2 * self.only_baseline + self.model - self.baseline
        return not differing or float(binomtest(self.only_baseline, differing).pvalue) > _CHANCE


@dataclass(frozen=True)
class _Scores:
    """How well images are predicted by models that were not fitted to them.

    Attributes:
        losses: float64 [N], log loss of each image in nats, times its weight.
        accuracy: share that is right, 0-1.
        recall: mean over the classes of the share that is right.
        is_complete: whether there was a model for each image.
    """

    losses: NDArray[np.float64]
    accuracy: float
    recall: float
    is_complete: bool

    @property
    def log_loss(self) -> float:
        return float(self.losses.mean())


def fit_baseline(features: FrozenFeatures, plan: Plan, seed: int, balanced: bool, quiet: bool = False) -> Baseline:
    """Cross-validate logistic regression on the training images, and classify the test images with it.

    Args:
        features: of the network before it is trained.
        plan: what is trained on.
        seed: of the folds.
        balanced: whether all classes have the same weight, as in a balanced training.
        quiet: whether to show no progress.
    """
    count, y = len(features.train), plan.targets[features.train]
    together = np.concatenate(list(features.means.values()), axis=1)
    x, new = together[:count], together[count : count + len(features.test)]
    folds = deal_folds(y, plan.dataset.groups[features.train], seed, _FOLDS)
    fitting = _Fitting(y, folds, len(plan.class_names), balanced)
    with stage("Fitting the baseline", quiet):
        by_stage = {
            name: min((fitting.cross_validate(means, c) for c in _STRENGTHS), key=lambda each: each.log_loss)
            for name, means in features.train_means.items()
        }
        scores = {c: fitting.cross_validate(x, c) for c in _STRENGTHS}
        best = min(scores, key=lambda c: scores[c].log_loss)
        # Of each fold's training images, which are all but those of the fold.
        curve = [(round(share * count * (_FOLDS - 1) / _FOLDS), share) for share in _SHARES]
        learning_curve = [
            (images, scores[best].accuracy if share == 1 else fitting.cross_validate(x, best, share, seed).accuracy)
            for images, share in curve
        ]
        predicted = _most_probable(fitting.predict(x, np.ones(count, np.bool_), new, best))
    return Baseline(
        images=count,
        accuracy=scores[best].accuracy,
        recall=scores[best].recall,
        log_losses={name: found.log_loss for name, found in by_stage.items()},
        log_loss=scores[best].log_loss,
        best_stage=_best_stage(by_stage),
        learning_curve=tuple(learning_curve),
        tested=features.test,
        predicted=predicted,
    )


def _best_stage(by_stage: Mapping[str, _Scores]) -> str:
    """The stage that predicts best; the last one unless another is better by more than the standard error of that."""
    last = list(by_stage)[-1]
    better = {last: 0.0}
    for name, scores in by_stage.items():
        gains = by_stage[last].losses - scores.losses
        if scores.is_complete and gains.mean() > gains.std() / np.sqrt(len(gains)):
            better[name] = float(gains.mean())
    return max(better, key=better.__getitem__)


@dataclass(frozen=True)
class _Fitting:
    """Logistic regression on features of the training images.

    Attributes:
        y: int64 [N], their classes.
        folds: int64 [N], their folds.
        classes: number of classes.
        balanced: whether all classes have the same weight.
    """

    y: Targets
    folds: NDArray[np.int64]
    classes: int
    balanced: bool

    def cross_validate(self, x: Features, c: float, share: float = 1.0, seed: int = 0) -> _Scores:
        """Predict each image by a model that was fitted to a random share of the images outside of its fold.

        Args:
            x: float32 [N,D].
            c: inverse strength of regularisation.
            share: 0-1.
            seed: of the choice.
        """
        count = len(self.y)
        found = np.zeros((count, self.classes))
        is_used = np.random.default_rng(seed).permutation(count) < share * count
        for fold in range(_FOLDS):
            inside = self.folds == fold
            found[inside] = self.predict(x, ~inside & is_used, x[inside], c)
        true = np.log(np.maximum(found[np.arange(count), self.y], _LEAST))
        right = _most_probable(found) == self.y
        counts = np.bincount(self.y, minlength=self.classes)
        weights = image_weights(self.y, self.classes) if self.balanced else np.ones(count)
        recalls = np.bincount(self.y, right, self.classes)[counts > 0] / counts[counts > 0]
        return _Scores(
            losses=-true * weights / weights.mean(),
            accuracy=float(right.mean()),
            recall=float(recalls.mean()),
            is_complete=bool(found.any(axis=1).all()),
        )

    def predict(self, x: Features, used: NDArray[np.bool_], new: Features, c: float) -> NDArray[np.float64]:
        """Probabilities of new images, [len(new),C], by a model of the used ones; 0 if these have only one class."""
        found = np.zeros((len(new), self.classes))
        if not len(new) or len(np.unique(self.y[used])) < 2:
            return found
        model = fit_regression(x[used], self.y[used], c, self.balanced)
        found[:, model.classes_] = model.predict_proba(new)
        return found


def _most_probable(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """The most probable class of each row, int64 [N]; no class if all probabilities are 0."""
    return np.where(probabilities.any(axis=1), probabilities.argmax(axis=1), _UNKNOWN)
