"""The simplest classifier on the pretrained network: logistic regression on the mean features of its last stages.

It costs seconds and shows what a training must at least reach.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from classify_training.data.plan import Plan
from classify_training.evaluation.evaluate import Evaluation, run_on_examples
from classify_training.model.classifier import Classifier
from classify_training.progress import stage

MOST_TRAIN: Final = 1500
MOST_TEST: Final = 1000
"""Images that are used; more would take longer and say little more."""

_STAGES: Final = 3
_FOLDS: Final = 3
_STAGE_C: Final = 0.01
_ALL_C: Final = (0.003, 0.01, 0.03, 0.1)
"""Inverse strengths of regularisation, for standardised features."""

Features = NDArray[np.float32]
Targets = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What logistic regression reaches on the features of the network before it was trained.

    Attributes:
        images: number of training images it was fitted to.
        accuracy: cross-validated on these images, 0-1, with the features of the last three stages together.
        log_losses: name of a stage -> cross-validated log loss in nats with its features alone.
        tested: int64 [T], the test images that it classified.
        predicted: int64 [T], the predicted classes.
    """

    images: int
    accuracy: float
    log_losses: Mapping[str, float]
    tested: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @property
    def best_stage(self) -> str:
        """The stage whose features alone predict best."""
        return min(self.log_losses, key=self.log_losses.__getitem__)

    def compare(self, evaluation: Evaluation) -> "Comparison":
        """Count the right answers of this baseline and of the trained model on the same test images."""
        places = np.searchsorted(evaluation.indices, self.tested)
        targets = evaluation.targets[places]
        return Comparison(
            images=len(places),
            baseline=int((self.predicted == targets).sum()),
            model=int((evaluation.predicted[places] == targets).sum()),
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Right answers of the baseline and of the trained model.

    Attributes:
        images: number of test images.
        baseline: how many the baseline classifies correctly.
        model: how many the model classifies correctly.
    """

    images: int
    baseline: int
    model: int

    @property
    def is_below(self) -> bool:
        """Whether the model is worse than the baseline."""
        return self.model < self.baseline


def fit_baseline(classifier: Classifier, plan: Plan, batch_size: int, seed: int, quiet: bool = False) -> Baseline:
    """Cross-validate logistic regression on the training images, and classify the test images with it.

    Args:
        classifier: not yet trained, with pretrained weights.
        plan: what is trained on.
        batch_size: images in one batch.
        seed: of the choice of images and of the folds.
        quiet: whether to show no progress.

    Raises:
        Interrupted: a signal arrived.
    """
    rng = np.random.default_rng(seed)
    train = np.sort(rng.permutation(plan.indices("train"))[:MOST_TRAIN])
    test = np.sort(rng.permutation(plan.indices("test"))[:MOST_TEST])
    network = classifier.network
    ends = {each.name: classifier.backbone.get_layer(each.output).output for each in network.stages[-_STAGES:]}
    means = [keras.ops.mean(keras.ops.cast(end, "float32"), axis=(1, 2)) for end in ends.values()]
    images = keras.Input(classifier.model.input_shape[1:], dtype="float32")
    features = keras.Model(classifier.backbone.inputs, keras.ops.concatenate(means, axis=1))
    model = keras.Model(images, features(network.preprocess(images)))
    x, new = (
        run_on_examples(model, plan, indices, batch_size, "Features for the baseline", quiet)
        for indices in (train, test)
    )
    y = plan.targets[train]
    with stage("Fitting the baseline", quiet):
        folds = deal_folds(y, plan.dataset.groups[train], seed)
        widths = np.cumsum([0, *(end.shape[-1] for end in ends.values())])
        parts = zip(ends, widths, widths[1:], strict=False)
        losses = {
            name: _cross_validate(x[:, begin:end], y, folds, _STAGE_C, len(plan.class_names))[0]
            for name, begin, end in parts
        }
        scores = {c: _cross_validate(x, y, folds, c, len(plan.class_names)) for c in _ALL_C}
        best = min(scores, key=lambda c: scores[c][0])
        predicted = _predict(x, y, new, best, len(plan.class_names)).argmax(axis=1)
    return Baseline(images=len(train), accuracy=scores[best][1], log_losses=losses, tested=test, predicted=predicted)


def deal_folds(targets: Targets, groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A fold for each image, int64 [N]: images of one group share one, and the classes are spread evenly.

    Args:
        targets: int64 [N], class of each image.
        groups: int64 [N], equal for near-duplicates of each other.
        seed: of the order in which groups are dealt.
    """
    folds = np.zeros(len(targets), np.int64)
    counts = np.zeros((_FOLDS, int(targets.max()) + 1))
    for members in _shuffled_groups(groups, seed):
        target = targets[members[0]]
        fold = min(range(_FOLDS), key=lambda number: (counts[number, target], counts[number].sum()))
        folds[members] = fold
        counts[fold, target] += len(members)
    return folds


def _shuffled_groups(groups: NDArray[np.int64], seed: int) -> Iterator[Sequence[int]]:
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(place)
    names = list(members)
    for number in np.random.default_rng(seed).permutation(len(names)):
        yield members[names[number]]


def _cross_validate(x: Features, y: Targets, folds: NDArray[np.int64], c: float, classes: int) -> tuple[float, float]:
    """Mean log loss in nats and accuracy over all images, each predicted by a model that was not fitted to it."""
    found = np.zeros((len(y), classes))
    for fold in range(_FOLDS):
        inside = folds == fold
        if inside.any() and len(np.unique(y[~inside])) > 1:
            found[inside] = _predict(x[~inside], y[~inside], x[inside], c, classes)
    true = found[np.arange(len(y)), y]
    return -float(np.log(np.maximum(true, 1e-7)).mean()), float((found.argmax(axis=1) == y).mean())


def _predict(x: Features, y: Targets, new: Features, c: float, classes: int) -> NDArray[np.float64]:
    """Probabilities of `new`, [len(new),classes], by a model fitted to `x` and `y`."""
    found = np.zeros((len(new), classes))
    if not len(new):
        return found
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=100, tol=1e-3))
    # With several threads, such small products mostly wait for each other.
    with threadpool_limits(1), warnings.catch_warnings():
        # A few steps more would change nothing that matters here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    found[:, model.classes_] = model.predict_proba(new)
    return found
