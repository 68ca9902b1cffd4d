"""Calibration of probabilities by temperature scaling, and the calibration error (Guo et al., "On Calibration of Modern
Neural Networks", 2017).
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Logits = NDArray[np.floating[Any]]
Targets = NDArray[np.int64]
_RANGE: Final = (0.05, 20.0)
_BINS: Final = 10
"""As in the client's report, so that both errors can be compared."""


def fit_temperature(logits: Logits, targets: Targets, weights: NDArray[np.float32] | None = None) -> float:
    """Find the T > 0 for which softmax(logits / T) has the lowest negative log-likelihood; 1 without images.

    One image more is counted whose true class is unknown, so that T does not fall without limit where all images are
    right: that would promise certainty after seeing a few (as Platt's targets, "Probabilistic Outputs for Support
    Vector Machines", 1999, avoid for two classes).

    Args:
        logits: [N,C].
        targets: int64 [N], true class of each image.
        weights: float32 [N], weight of each image; equal weights if None.
    """
    if not len(targets):
        return 1.0
    images, classes = logits.shape
    counts = images * np.eye(classes)[targets] + 1 / classes

    def loss(log_t: float) -> float:
        logs = log_softmax(logits.astype(np.float64) / np.exp(log_t), axis=1)
        return -float(np.average((counts * logs).sum(axis=1), weights=weights))

    found = minimize_scalar(
        loss,
        bounds=np.log(_RANGE),
        method="bounded",
    )
    return float(np.exp(found.x))


def negative_log_likelihood(logits: Logits, targets: Targets, weights: NDArray[np.float32] | None = None) -> float:
    """Weighted mean of -log p(true class), in nats; the arguments are those of `fit_temperature`."""
    true = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(targets)), targets]
    return -float(np.average(true, weights=weights))


def calibration_error(logits: Logits, targets: Targets) -> float:
    """Expected calibration error (equation 3), in 0-1: mean |accuracy - confidence| over 10 equal bins of confidence.

    Args:
        logits: [N,C], N >= 1.
        targets: int64 [N], true class of each image.
    """
    probabilities = softmax(logits.astype(np.float64), axis=1)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=correct.astype(float) - confidence, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(targets))
