"""Learning does not depend on the scale of the pretrained weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classify_training.config import DataConfig
from classify_training.data.plan import Plan, make_plan
from classify_training.evaluation.frozen_features import compute_features
from classify_training.model.classifier import Classifier, build_classifier
from classify_training.model.standardise import scale_convolutions, standardise_head


@pytest.fixture(scope="module")
def plan(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    cache = tmp_path_factory.mktemp("cache")
    config = DataConfig(dataset=dataset, image_size=32, val=0.2, test=0.2, min_images=4, cache=cache)
    return make_plan(config, quiet=True)


def prepared(plan: Plan, scale: float = 1.0) -> Classifier:
    """A classifier whose last block's kernels were multiplied by `scale` before anything else."""
    classifier = build_classifier(len(plan.class_names), 32, "random")
    for number in (1, 2, 3):
        kernel = classifier.backbone.get_layer(f"block5_conv{number}").kernel
        kernel.assign(kernel * scale)
    scale_convolutions(classifier, plan.dataset.pixels(plan.indices("train")))
    features = compute_features(classifier, plan, 8, seed=1, quiet=True)
    standardise_head(classifier, features.train_means, features.squares)
    return classifier


def head_inputs(classifier: Classifier, plan: Plan) -> NDArray[Any]:
    pixels = plan.dataset.pixels(plan.indices("train")).astype(np.float32)
    features = classifier.features.predict(classifier.network.preprocess(pixels), verbose=0)
    assert classifier.standardisation is not None
    return np.asarray(classifier.standardisation(features))


def test_every_convolution_has_unit_outputs_and_the_network_computes_the_same(plan: Plan) -> None:
    original = build_classifier(2, 32, "random", head_features="last", standardise=False)
    scaled = build_classifier(2, 32, "random", head_features="last", standardise=False)
    pixels = plan.dataset.pixels(plan.indices("train"))
    scale_convolutions(scaled, pixels)
    inputs = original.network.preprocess(pixels.astype(np.float32))
    before, after = (each.features.predict(inputs, verbose=0) for each in (original, scaled))
    ratio = np.linalg.norm(after) / np.linalg.norm(before)
    np.testing.assert_allclose(after, ratio * before, rtol=1e-3, atol=1e-4)
    for layer in ("block1_conv1", "block3_conv2", "block5_conv3"):
        model = type(original.backbone)(scaled.backbone.inputs, scaled.backbone.get_layer(layer).output)
        assert np.sqrt(np.mean(model.predict(inputs, verbose=0) ** 2)) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_scale_of_the_weights_makes_no_difference(plan: Plan, scale: float) -> None:
    plain, other = prepared(plan), prepared(plan, scale)
    np.testing.assert_allclose(head_inputs(other, plan), head_inputs(plain, plan), atol=1e-2)
    for layer in ("block5_conv1", "block5_conv3"):
        left, right = (each.backbone.get_layer(layer).get_weights()[0] for each in (plain, other))
        np.testing.assert_allclose(right, left, rtol=1e-3, atol=1e-6)


def test_feature_maps_beyond_float16_are_scaled_too(plan: Plan) -> None:
    pixels = plan.dataset.pixels(plan.indices("train"))
    networks = [build_classifier(2, 32, "random", policy=policy) for policy in ("mixed_float16", "float32")]
    for each in networks:
        kernel = each.backbone.get_layer("block1_conv1").kernel
        kernel.assign(1e5 * kernel)
        scale_convolutions(each, pixels)
    half, single = (each.backbone.get_layer("block1_conv1").get_weights()[0] for each in networks)
    np.testing.assert_allclose(half, single, rtol=1e-3)


def test_what_enters_the_head_has_mean_0_and_at_most_unit_variance(plan: Plan) -> None:
    classifier = prepared(plan)
    inputs = head_inputs(classifier, plan)
    assert abs(inputs.mean()) < 0.01
    assert 0.3 < inputs.std() <= 1.01
