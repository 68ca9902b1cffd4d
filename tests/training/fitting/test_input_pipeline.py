"""Cached features are what the frozen layers give, in an order that depends on the seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_support import build

from classify_training.config import AugmentConfig, TrainConfig
from classify_training.data.plan import make_plan
from classify_training.errors import CacheError
from classify_training.fitting.input_pipeline import FeaturePipeline, ImagePipeline, build_pipeline

STILL = AugmentConfig(flip=False, shift=0, rotate=0, erase=0)


def test_features_are_what_the_frozen_layers_give(config: TrainConfig) -> None:
    config = replace(config, augment=STILL)
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config)
    pipeline = build_pipeline(classifier, plan, config, "block5")
    head = build_pipeline(classifier, plan, config, "none")
    assert isinstance(pipeline, FeaturePipeline)
    assert isinstance(head, FeaturePipeline)
    count = 3 * len(plan.epoch_examples) + len(plan.indices("val"))
    # The mean features of block 3, and the feature map of block 4; then those of 3 and 4, and the map of block 5.
    assert pipeline.features.shape == (count, 256 + 2 * 2 * 512)
    assert head.features.shape == (count, 256 + 512 + 512)
    images = ImagePipeline(classifier, plan, config)
    for number in (0, 1, 5):
        for cached in (pipeline, head):
            missing = cached.missing(number)
            assert sum(cached.compute(number)) == missing
            assert cached.missing(number) == 0
        batches = [list(each.epoch(number)) for each in (images, pipeline, head)]
        assert sum(len(inputs) for inputs, *_ in batches[0]) == len(plan.epoch_examples)
        for (pixels, *rest), (features, *same), (flat, *too) in zip(*batches, strict=True):
            for left, middle, right in zip(rest, same, too, strict=True):
                assert np.array_equal(left, middle)
                assert np.array_equal(left, right)
            logits = classifier.model(pixels)
            np.testing.assert_allclose(pipeline.model(features), logits, atol=1e-4)
            np.testing.assert_allclose(classifier.head(flat), logits, atol=1e-4)
    expected = classifier.model.predict(plan.dataset.pixels(plan.indices("val")).astype(np.float32), verbose=0)
    for each in (images, pipeline, head):
        np.testing.assert_allclose(each.model.predict(each.validation(), verbose=0), expected, atol=1e-4)


def test_epochs_are_shuffled_and_the_same_for_the_same_seed(config: TrainConfig) -> None:
    plan = make_plan(config.data, quiet=True)
    pipelines = [ImagePipeline(build(plan, config), plan, config) for _ in range(2)]

    def targets(pipeline: ImagePipeline, number: int) -> list[int]:
        return [int(t) for _, one_hot, _ in pipeline.epoch(number) for t in np.argmax(one_hot, axis=1)]

    assert targets(pipelines[0], 1) == targets(pipelines[1], 1) != targets(pipelines[0], 2)
    assert sorted(targets(pipelines[0], 1)) == sorted(plan.targets[plan.epoch_examples].tolist())


def test_features_without_room_are_not_cached(config: TrainConfig) -> None:
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config)
    small = replace(config, fit=replace(config.fit, feature_cache_gb=1e-6))
    assert isinstance(build_pipeline(classifier, plan, small, "block5"), ImagePipeline)
    never = replace(config, fit=replace(config.fit, cached_augmentations=0))
    assert isinstance(build_pipeline(classifier, plan, never, "block5"), ImagePipeline)
    config.data.cache.rename(config.data.cache.with_name("elsewhere"))
    config.data.cache.touch()
    with pytest.raises(CacheError, match="--cached-augmentations 0"):
        build_pipeline(classifier, plan, config, "block5")


def test_without_time_for_more_augmentations_the_first_ones_repeat(config: TrainConfig, tmp_path: Path) -> None:
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config)
    pipeline = FeaturePipeline(classifier, plan, config, classifier.network.head, 3)
    for number in (0, 1):
        list(pipeline.compute(number))
    assert pipeline.missing(2)
    pipeline.compute_no_more()
    assert not pipeline.missing(2)
    again, first = (np.concatenate([inputs.numpy() for inputs, *_ in pipeline.epoch(number)]) for number in (2, 0))
    # In another order.
    np.testing.assert_array_equal(np.sort(again, axis=0), np.sort(first, axis=0))
    assert not np.array_equal(again, first)


def test_a_resumed_training_repeats_the_augmentations_that_it_has(config: TrainConfig, tmp_path: Path) -> None:
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config)
    pipeline = FeaturePipeline(classifier, plan, config, classifier.network.head, 3)
    list(pipeline.compute(4))
    pipeline.compute_no_more()
    assert not pipeline.missing(5)
