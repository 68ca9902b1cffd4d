"""Labels are judged by models that have not seen the image; mistakes made on purpose come first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classify_training.audit.label_errors import score_labels, self_test
from classify_training.audit.out_of_fold import UNKNOWN, Choice, ImageSet, choose, out_of_fold_probabilities
from classify_training.audit.outliers import outliers


def make_images(
    labels: NDArray[np.int64], true: NDArray[np.int64], groups: NDArray[np.int64] | None = None
) -> ImageSet:
    """Images whose features lie around one corner for each true label in one stage, and anywhere in the other."""
    rng = np.random.default_rng(1)
    classes = int(max(labels.max(), true.max())) + 1
    clear = np.eye(classes)[true] + 0.1 * rng.normal(size=(2, len(true), classes))
    noise = rng.normal(size=(2, len(true), 9))
    features = {"block4": clear.astype(np.float32), "block5": noise.astype(np.float32)}
    return ImageSet(features, labels, np.arange(len(true)) if groups is None else groups, classes)


def plant(true: NDArray[np.int64], places: list[int]) -> NDArray[np.int64]:
    labels = true.copy()
    labels[places] = (labels[places] + 1) % (true.max() + 1)
    return labels


TRUE = np.repeat(np.arange(4), 50)


def test_planted_mistakes_come_first_with_their_true_label() -> None:
    places = [3, 60, 61, 120, 199]
    scores = score_labels(make_images(plant(TRUE, places), TRUE), seed=1)
    assert scores.choice.stage == "block4"
    assert sorted(np.argsort(-scores.doubts)[:5].tolist()) == places
    assert scores.suggested[places].tolist() == TRUE[places].tolist()
    flagged = np.flatnonzero(scores.is_likely_wrong).tolist()
    assert set(flagged) <= set(places)
    assert len(flagged) >= 3
    assert scores.accuracy == 0.975


def test_near_duplicates_with_the_same_mistake_do_not_defend_each_other() -> None:
    places = [0, 1, 2, 3, 4, 5]
    groups = np.arange(len(TRUE))
    groups[places] = 0
    scores = score_labels(make_images(plant(TRUE, places), TRUE, groups=groups), seed=1)
    assert scores.is_likely_wrong[places].all()


def test_an_image_without_a_label_gets_probabilities_and_no_doubt() -> None:
    labels = TRUE.copy()
    labels[[0, 100]] = UNKNOWN
    images = make_images(labels, TRUE)
    scores = score_labels(images, seed=1)
    assert scores.probabilities[[0, 100]].argmax(axis=1).tolist() == [0, 2]
    assert scores.doubts[[0, 100]].tolist() == [0, 0]


def test_a_set_that_says_nothing_about_labels_fails_its_own_test() -> None:
    informative = make_images(TRUE, TRUE)
    test = self_test(informative, score_labels(informative, 1), seed=1)
    assert (test.planted, test.is_weak) == (10, False)
    random = ImageSet({"block5": informative.features["block5"]}, TRUE, informative.groups, 4)
    assert self_test(random, score_labels(random, 1), seed=1).is_weak


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=2, max_size=30), st.integers(0, 9))
def test_any_labels_give_probabilities(images: list[tuple[int, int]], seed: int) -> None:
    labels = np.array([label for label, _ in images])
    made = make_images(labels, labels, groups=np.array([group for _, group in images]))
    found = out_of_fold_probabilities(made, Choice("block4", 0.1), seed)
    assert found.shape == (len(labels), made.classes)
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert found.sum(axis=1) == pytest.approx(1)
    if len(np.unique(labels)) > 1:
        assert choose(made, seed).stage in ("block4", "block5")


def test_images_unlike_all_others_are_named_with_the_reason() -> None:
    rng = np.random.default_rng(1)
    usual = rng.integers(60, 180, (40, 1, 1, 3)) + rng.integers(-40, 40, (40, 16, 16, 3))
    black, white = np.zeros((1, 16, 16, 3)), np.full((1, 16, 16, 3), 255)
    pixels = np.concatenate([usual, black, white]).astype(np.uint8)
    *others, dark, bright = outliers(iter(np.array_split(pixels, 3)))
    assert not any(others)
    assert dark in ("much darker than the others", "much less detailed than the others")
    assert bright in ("much brighter than the others", "much less detailed than the others")
