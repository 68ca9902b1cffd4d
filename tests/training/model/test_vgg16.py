"""Weights come from where the user says, and random ones keep the signal alive."""

from pathlib import Path

import keras
import numpy as np
import pytest

from classify_training.errors import WeightsError
from classify_training.model.classifier import build_classifier, set_trainable
from classify_training.model.vgg16 import VGG16


def test_weights_of_a_file_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "own.weights.h5"
    original = build_classifier(2, 32, "random", seed=1).backbone
    original.save_weights(path)
    loaded = build_classifier(3, 48, str(path), seed=2).backbone
    for ours, theirs in zip(loaded.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save_weights(path)
    with pytest.raises(WeightsError, match="does not hold weights of VGG16"):
        build_classifier(2, 32, str(path))


def test_random_weights_are_seeded_and_keep_the_signal() -> None:
    pictures = np.random.default_rng(1).uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)
    # Logits are 0 before the training.
    models = [build_classifier(4, 32, "random", output_init="glorot_uniform", seed=seed).model for seed in (1, 1, 2)]
    one, same, other = (model(pictures).numpy() for model in models)
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    assert 0.01 < one.std() < 10


def test_what_can_be_unfrozen_follows_from_the_stages() -> None:
    assert VGG16.unfreeze_choices == ("none", "block5", "block4", "block3", "block2", "all")
    assert [VGG16.first_trained_stage(choice) for choice in VGG16.unfreeze_choices] == [6, 5, 4, 3, 2, 1]


def test_grad_cam_explains_the_last_map_of_at_least_7_by_7() -> None:
    sizes = {32: "block3_conv3", 55: "block3_conv3", 56: "block4_conv3", 111: "block4_conv3", 112: "block5_conv3"}
    assert {size: VGG16.explained_layer(size) for size in sizes} == sizes


def test_freezing_is_by_block() -> None:
    classifier = build_classifier(2, 32, "random")
    for block, count in [("none", 0), ("block5", 3), ("block4", 6), ("block3", 9), ("block2", 11), ("all", 13)]:
        set_trainable(classifier, block)
        assert len(classifier.backbone.trainable_weights) == 2 * count
