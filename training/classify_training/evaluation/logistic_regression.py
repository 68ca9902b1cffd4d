"""Logistic regression on features of a network, as quickly as it can be fitted."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits


def fit_regression(x: NDArray[np.float32], y: NDArray[np.int64], strength: float, balanced: bool = False) -> Any:
    """Fit to standardised features; gives a model of scikit-learn, with `classes_` and `predict_proba`.

    Args:
        x: float32 [N,D].
        y: int64 [N], at least two classes.
        strength: inverse strength of regularisation.
        balanced: whether all classes have the same weight.
    """
    weights = "balanced" if balanced else None
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength, max_iter=100, tol=1e-3, class_weight=weights)
    )
    # With several threads, such small products mostly wait for each other.
    with threadpool_limits(1), warnings.catch_warnings():
        # A few steps more would change nothing that matters here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)
