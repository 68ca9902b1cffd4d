"""The client's metrics equal those of scikit-learn."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as expected_matrix
from sklearn.metrics import precision_recall_fscore_support

from classify_client.results.metrics import class_scores, confusion_matrix

NAMES = ["a", "b", "c", "d"]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1))
def test_confusion_matrix_and_class_scores_equal_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    true, predicted = zip(*pairs, strict=True)
    matrix = confusion_matrix(Counter(pairs), NAMES)
    np.testing.assert_array_equal(matrix, expected_matrix(true, predicted, labels=NAMES))
    expected = precision_recall_fscore_support(true, predicted, labels=NAMES, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        np.testing.assert_allclose(class_scores(matrix)[name], values)
