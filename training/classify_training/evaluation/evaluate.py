"""Evaluation on the held-out test split."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from classify_training.data.batches import track_batches
from classify_training.data.dataset import Dataset
from classify_training.data.plan import Plan
from classify_training.fitting.calibration import calibration_error, fit_temperature, negative_log_likelihood


@dataclass(frozen=True)
class Evaluation:
    """Predictions for the test split, and metrics computed from them.

    Attributes:
        class_names: the C classes in the order of the model's outputs.
        indices: int64 [T], the examples of the test split.
        targets: int64 [T], true class of each example.
        logits: float32 [T,C], outputs of the model.
        temperature: the logits are divided by it to calibrate probabilities; fitted on the validation split, 1
            without validation images.
    """

    class_names: tuple[str, ...]
    indices: NDArray[np.int64]
    targets: NDArray[np.int64]
    logits: NDArray[np.float32]
    temperature: float

    @property
    def predicted(self) -> NDArray[np.int64]:
        """int64 [T], predicted class of each image."""
        classes: NDArray[np.int64] = np.argmax(self.logits, axis=-1)
        return classes

    @property
    def confusion(self) -> NDArray[np.int64]:
        """int64 [C,C]; rows are true classes, columns are predicted classes."""
        classes = np.arange(len(self.class_names))
        if not len(self.targets):
            return np.zeros((len(classes), len(classes)), np.int64)
        matrix: NDArray[np.int64] = confusion_matrix(self.targets, self.predicted, labels=classes)
        return matrix

    def metrics(self) -> dict[str, float]:
        """`accuracy` and `macro_f1` (over the classes in the test split), in 0-1; empty without test images."""
        if not len(self.targets):
            return {}
        present = np.unique(self.targets)
        _, recall, f1, support = self._scores(present)
        return {"accuracy": float(np.average(recall, weights=support)), "macro_f1": float(np.mean(f1))}

    def report(self) -> dict[str, Any]:
        """Make the content of `metrics.json`: accuracy with a 95% interval, scores per class, and more."""
        images = len(self.targets)
        if not images:
            return {"images": 0, "calibration": {"temperature": self.temperature}}
        right = int((self.predicted == self.targets).sum())
        # Wilson's interval is accurate for small samples and for accuracies near 1 too.
        interval = binomtest(right, images).proportion_ci(0.95, method="wilson")
        scores = zip(*self._scores(np.arange(len(self.class_names))), strict=True)
        return {
            "images": images,
            "correct": right,
            **self.metrics(),
            "accuracy_interval": [float(interval.low), float(interval.high)],
            "classes": {
                name: {"support": int(support), "precision": float(precision), "recall": float(recall), "f1": float(f1)}
                for name, (precision, recall, f1, support) in zip(self.class_names, scores, strict=True)
            },
            "confusion": {"classes": self.class_names, "matrix": self.confusion.tolist()},
            "calibration": {
                "temperature": self.temperature,
                "before": self._calibration(self.logits),
                "after": self._calibration(self.logits / self.temperature),
            },
        }

    def _scores(self, labels: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Precision, recall, F1 and support of some classes; 0 for a score that is undefined."""
        scores: tuple[NDArray[Any], ...] = precision_recall_fscore_support(
            self.targets, self.predicted, labels=labels, zero_division=0
        )
        return scores

    def _calibration(self, logits: NDArray[np.float32]) -> dict[str, float]:
        return {
            "expected_calibration_error": calibration_error(logits, self.targets),
            "negative_log_likelihood": negative_log_likelihood(logits, self.targets),
        }


def evaluate(model: keras.Model, plan: Plan, batch_size: int, quiet: bool = False) -> Evaluation:
    """Fit the temperature on the validation split, and classify the test split.

    Args:
        model: float32 [N,S,S,3] RGB in 0-255 -> float32 [N,C] logits.
        plan: the dataset and its splits.
        batch_size: images in one batch.
        quiet: whether to show no progress.

    Raises:
        Interrupted: a signal arrived.
    """
    val, test = plan.indices("val"), plan.indices("test")
    temperature = fit_temperature(
        run_on_examples(model, plan.dataset, val, batch_size, "Evaluating", quiet), plan.targets[val]
    )
    logits = run_on_examples(model, plan.dataset, test, batch_size, "Evaluating", quiet)
    return Evaluation(plan.class_names, test, plan.targets[test], logits, temperature)


def run_on_examples(
    model: keras.Model, dataset: Dataset, indices: NDArray[np.int64], batch_size: int, description: str, quiet: bool
) -> NDArray[np.float32]:
    """Outputs of a model for some examples, float32 [len(indices),D].

    Args:
        model: float32 [N,S,S,3] RGB in 0-255 -> float32 [N,D].
        dataset: the dataset.
        indices: int64, the examples.
        batch_size: images in one batch.
        description: text beside the progress bar.
        quiet: whether to show no progress.

    Raises:
        Interrupted: a signal arrived.
    """
    tracked = track_batches(indices, batch_size, description, quiet)
    # A model on several GPUs gives the outputs of each of them, one after the other, and each has the whole batch.
    outputs = [model.predict_on_batch(dataset.pixels(batch).astype(np.float32))[: len(batch)] for batch in tracked]
    return np.concatenate([np.empty((0, *model.output_shape[1:]), np.float32), *outputs])
