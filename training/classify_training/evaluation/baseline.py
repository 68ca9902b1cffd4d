"""The simplest classifier on the network before training: logistic regression on the mean features of its last stages.

It costs seconds. It shows what a training must at least reach, which stage describes these images best, and whether
more images would help.
"""

import time
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
_STRENGTHS: Final = (0.003, 0.01, 0.03, 0.1)
"""Inverse strengths of regularisation, for standardised features."""

_SHARES: Final = (0.25, 0.5, 0.75, 1.0)
_SOLVED: Final = 0.995

Features = NDArray[np.float32]
Targets = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What logistic regression reaches on the features of the network before it was trained.

    Attributes:
        images: number of training images it was fitted to.
        accuracy: cross-validated on these images, 0-1, with the features of the last three stages together.
        log_losses: name of a stage -> cross-validated log loss in nats with its features alone.
        log_loss: the same with the features of these stages together.
        learning_curve: (number of training images, cross-validated accuracy in 0-1) for more and more of the images.
        tested: int64 [T], the test images that it classified.
        predicted: int64 [T], the predicted classes.
    """

    images: int
    accuracy: float
    log_losses: Mapping[str, float]
    log_loss: float
    learning_curve: tuple[tuple[int, float], ...]
    tested: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @property
    def best_stage(self) -> str:
        """The stage whose features alone predict best."""
        return min(self.log_losses, key=self.log_losses.__getitem__)

    @property
    def needs_earlier_stages(self) -> bool:
        """Whether the last stage alone predicts worse than all of them together."""
        *_, last = self.log_losses.values()
        return self.log_loss < last

    @property
    def is_solved(self) -> bool:
        """Whether nearly nothing is left to be gained by fine-tuning the network."""
        return self.accuracy >= _SOLVED

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


@dataclass(frozen=True)
class FrozenFeatures:
    """What the network computes before it is trained.

    Attributes:
        train: int64 [N], training images.
        test: int64 [T], test images.
        means: name of each of the last stages -> float32 [N + T,c], its mean features of these images, in this order.
        head: float32 [N,D], what the head takes, of the training images.
        seconds: for one image.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    means: Mapping[str, Features]
    head: Features
    seconds: float


def compute_features(
    classifier: Classifier, plan: Plan, batch_size: int, seed: int, quiet: bool = False
) -> FrozenFeatures:
    """Run the network, before it is trained, on some training and test images.

    Args:
        classifier: the model.
        plan: what is trained on.
        batch_size: images in one batch.
        seed: of the choice of images.
        quiet: whether to show no progress.

    Raises:
        Interrupted: a signal arrived.
    """
    rng = np.random.default_rng(seed)
    train = np.sort(rng.permutation(plan.indices("train"))[:MOST_TRAIN])
    test = np.sort(rng.permutation(plan.indices("test"))[:MOST_TEST])
    network, backbone = classifier.network, classifier.backbone
    ends = {each.name: backbone.get_layer(each.output).output for each in network.stages[-_STAGES:]}
    means = [keras.ops.mean(keras.ops.cast(end, "float32"), axis=(1, 2)) for end in ends.values()]
    head = keras.ops.cast(classifier.features.output, "float32")
    images = keras.Input(classifier.model.input_shape[1:], dtype="float32")
    features = keras.Model(backbone.inputs, keras.ops.concatenate([*means, head], axis=1))
    model = keras.Model(images, features(network.preprocess(images)))
    chosen = np.concatenate([train, test])
    # The first batch takes longer, because the model is compiled.
    run_on_examples(model, plan, chosen[:batch_size], batch_size, "Preparing the network", quiet)
    start = time.monotonic()
    found = run_on_examples(model, plan, chosen, batch_size, "Features for the baseline", quiet)
    seconds = (time.monotonic() - start) / len(chosen)
    *columns, begin = np.cumsum([0, *(end.shape[-1] for end in ends.values())]).tolist()
    by_stage = {
        name: found[:, column : column + end.shape[-1]]
        for (name, end), column in zip(ends.items(), columns, strict=True)
    }
    return FrozenFeatures(train, test, by_stage, found[: len(train), begin:], seconds)


def fit_baseline(features: FrozenFeatures, plan: Plan, seed: int, quiet: bool = False) -> Baseline:
    """Cross-validate logistic regression on the training images, and classify the test images with it.

    Args:
        features: of the network before it is trained.
        plan: what is trained on.
        seed: of the folds.
        quiet: whether to show no progress.
    """
    count, y, classes = len(features.train), plan.targets[features.train], len(plan.class_names)
    together = np.concatenate(list(features.means.values()), axis=1)
    x, new = together[:count], together[count:]
    with stage("Fitting the baseline", quiet):
        folds = deal_folds(y, plan.dataset.groups[features.train], seed)
        losses = {
            name: min(_cross_validate(means[:count], y, folds, c, classes)[0] for c in _STRENGTHS)
            for name, means in features.means.items()
        }
        scores = {c: _cross_validate(x, y, folds, c, classes) for c in _STRENGTHS}
        best = min(scores, key=lambda c: scores[c][0])
        # Of each fold's training images, which are all but those of the fold.
        curve = [(round(share * count * (_FOLDS - 1) / _FOLDS), share) for share in _SHARES]
        learning_curve = [
            (images, scores[best][1] if share == 1 else _cross_validate(x, y, folds, best, classes, share, seed)[1])
            for images, share in curve
        ]
        predicted = _predict(x, y, new, best, classes).argmax(axis=1)
    return Baseline(
        images=count,
        accuracy=scores[best][1],
        log_losses=losses,
        log_loss=scores[best][0],
        learning_curve=tuple(learning_curve),
        tested=features.test,
        predicted=predicted,
    )


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


def _cross_validate(
    x: Features,
    y: Targets,
    folds: NDArray[np.int64],
    c: float,
    classes: int,
    share: float = 1.0,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean log loss in nats and accuracy over all images, each predicted by a model that was not fitted to it.

    Each model is fitted to a random share of the images that are outside of its fold.
    """
    found = np.zeros((len(y), classes))
    is_used = np.random.default_rng(seed).permutation(len(y)) < share * len(y)
    for fold in range(_FOLDS):
        inside = folds == fold
        outside = ~inside & is_used
        if inside.any() and len(np.unique(y[outside])) > 1:
            found[inside] = _predict(x[outside], y[outside], x[inside], c, classes)
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
