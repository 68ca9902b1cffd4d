"""Statistics of predictions: accuracy with its interval, confusion matrix, precision, recall and F1."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95% interval of a proportion, in 0-1 (Wilson, 1927); also valid for few trials and near 0 or 1."""
    z = 1.959963984540054
    centre = (successes + z * z / 2) / (trials + z * z)
    reach = z * math.sqrt(successes * (trials - successes) / trials + z * z / 4) / (trials + z * z)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def confusion_matrix(pairs: Mapping[tuple[str, str], int], class_names: Iterable[str]) -> NDArray[np.int64]:
    """Count (true class, predicted class) pairs: int64 [C,C], rows are true classes, columns predicted ones."""
    index = {name: position for position, name in enumerate(class_names)}
    matrix = np.zeros((len(index), len(index)), np.int64)
    for (true, predicted), count in pairs.items():
        matrix[index[true], index[predicted]] += count
    return matrix


def class_scores(matrix: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Precision, recall and F1 of each class, float64 [C] in 0-1; 0 where one is undefined, as in scikit-learn.

    Computed here because scikit-learn is larger than the whole client; a test compares the two.

    Args:
        matrix: int64 [C,C] as from `confusion_matrix`.
    """
    hits, true, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    quotients = {"precision": (hits, predicted), "recall": (hits, true), "f1": (2 * hits, true + predicted)}
    return {
        name: np.divide(part, whole, out=np.zeros(len(matrix)), where=whole > 0)
        for name, (part, whole) in quotients.items()
    }
