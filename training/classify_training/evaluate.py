"""The final mark: how the model does on images it has never seen."""

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from classify_training.plan import Plan


@dataclass(frozen=True)
class Evaluation:
    """Marks on the test split.

    Attributes:
        images: how many it holds.
        metrics: `accuracy` and `macro_f1`, both in 0-1; empty without images.
    """

    images: int
    metrics: dict[str, float]


def evaluate(model: keras.Model, plan: Plan, batch_size: int) -> Evaluation:
    """Classify the test split with `model` (float32 [N,S,S,3] in 0-255 -> logits [N,C])."""
    indices = plan.indices("test")
    if not len(indices):
        return Evaluation(0, {})
    truth = plan.targets[indices]
    predicted = predict_classes(model, plan.dataset.images[indices], batch_size)
    return Evaluation(
        images=len(indices),
        metrics={
            "accuracy": float(accuracy_score(truth, predicted)),
            "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
        },
    )


def predict_classes(model: keras.Model, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.int64]:
    """uint8 [N,S,S,3] -> int64 [N], the index of each image's likeliest class."""
    logits = model.predict(images.astype(np.float32), batch_size=batch_size, verbose=0)
    classes: NDArray[np.int64] = np.argmax(logits, axis=-1)
    return classes
