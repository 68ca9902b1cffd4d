"""Cached features are what the frozen layers give, and what is trained is what should be."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classify_training.config import AugmentConfig, DataConfig, FitConfig, TrainConfig
from classify_training.data.plan import Plan, make_plan
from classify_training.errors import CacheError, FitError
from classify_training.fitting.checkpoint import Checkpoint, State
from classify_training.fitting.fit import fit, phases
from classify_training.fitting.input_pipeline import FeaturePipeline, ImagePipeline, build_pipeline, head_pipeline
from classify_training.model.classifier import Classifier, build_classifier

STILL = AugmentConfig(flip=False, shift=0, rotate=0, erase=0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of VGG16 weights, so that there is something to freeze."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.weights.h5"
    build_classifier(2, 32, "random").backbone.save_weights(path)
    return str(path)


@pytest.fixture
def config(dataset: Path, weights: str, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        data=DataConfig(dataset=dataset, image_size=32, val=0.2, test=0.2, min_images=4, cache=tmp_path / "cache"),
        fit=FitConfig(weights=weights, batch_size=7, head_epochs=2, epochs=2, precision="float32"),
        output=tmp_path / "models" / "classifier",
        runs=tmp_path / "runs",
        quiet=True,
    )


def build(plan: Plan, config: TrainConfig, policy: str = "float32") -> Classifier:
    return build_classifier(len(plan.class_names), 32, config.fit.weights, policy=policy)


def test_features_are_what_the_frozen_layers_give(config: TrainConfig) -> None:
    config = replace(config, augment=STILL)
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config)
    pipeline = build_pipeline(classifier, plan, config, "block5", epochs=2)
    head = head_pipeline(pipeline, classifier, plan, config)
    assert isinstance(pipeline, FeaturePipeline)
    assert isinstance(head, FeaturePipeline)
    assert pipeline.features.shape == (2 * len(plan.epoch_examples) + len(plan.indices("val")), 2, 2, 512)
    images = ImagePipeline(classifier, plan, config)
    for number in (0, 1):
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
    assert isinstance(build_pipeline(classifier, plan, small, "block5", 9), ImagePipeline)
    never = replace(config, fit=replace(config.fit, cached_augmentations=0))
    assert isinstance(build_pipeline(classifier, plan, never, "block5", 9), ImagePipeline)
    config.data.cache.rename(config.data.cache.with_name("elsewhere"))
    config.data.cache.touch()
    with pytest.raises(CacheError, match="--cached-augmentations 0"):
        build_pipeline(classifier, plan, config, "block5", 9)


def test_only_what_is_unfrozen_changes_and_all_epochs_are_told(config: TrainConfig, tmp_path: Path) -> None:
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config)
    before = {layer.name: layer.get_weights() for layer in classifier.backbone.layers}
    history = fit(classifier, plan, config, Checkpoint(tmp_path / "checkpoint")).history
    assert [(epoch.phase, epoch.epoch) for epoch in history] == [
        ("head", 1), ("head", 2), ("fine-tuning", 1), ("fine-tuning", 2),
    ]  # fmt: skip
    for epoch in history:
        assert epoch.val_loss is not None
        assert epoch.val_loss_calibrated is not None
        assert epoch.val_loss_calibrated <= epoch.val_loss + 1e-3
    changed = {
        layer.name
        for layer in classifier.backbone.layers
        for old, new in zip(before[layer.name], layer.get_weights(), strict=True)
        if not np.array_equal(old, new)
    }
    assert changed <= {"block5_conv1", "block5_conv2", "block5_conv3"}


def test_the_best_weights_are_kept(config: TrainConfig, tmp_path: Path) -> None:
    """Fine-tuning at a rate that wrecks everything leaves what the head's phase had reached."""
    config = replace(config, fit=replace(config.fit, learning_rate=100.0, schedule="constant", epochs=2))
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config)
    before = classifier.backbone.get_weights()
    state = fit(classifier, plan, config, Checkpoint(tmp_path / "checkpoint"))
    assert state.history[-1].loss > 100
    assert state.best_epoch == 0
    for old, new in zip(before, classifier.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class KilledBetweenPhases(Checkpoint):
    """Saves, and then ends the training as a kill would, when the second phase is about to begin."""

    def save(self, state: State, model: Any) -> None:
        super().save(state, model)
        if (state.phase, state.epoch) == (1, 0):
            raise KeyboardInterrupt


def test_a_kill_between_the_phases_loses_nothing(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, fit=replace(config.fit, learning_rate=1e-12))
    plan = make_plan(config.data, quiet=True)
    killed = build(plan, config)
    with pytest.raises(KeyboardInterrupt):
        fit(killed, plan, config, KilledBetweenPhases(tmp_path / "checkpoint"))
    resumed = build(plan, config)
    state = fit(resumed, plan, config, Checkpoint(tmp_path / "checkpoint"))
    assert [epoch.phase for epoch in state.history] == ["head", "head", "fine-tuning", "fine-tuning"]
    for before, after in zip(killed.head.get_weights(), resumed.head.get_weights(), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-6)


def test_a_training_that_diverges_says_so(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, fit=replace(config.fit, head_learning_rate=1e30, schedule="constant", head_epochs=3))
    plan = make_plan(config.data, quiet=True)
    with pytest.raises(FitError, match="--head-learning-rate"):
        fit(build(plan, config), plan, config, Checkpoint(tmp_path / "checkpoint"))


def test_lower_precision_trains_the_same_model(config: TrainConfig, tmp_path: Path) -> None:
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config, "mixed_bfloat16")
    pipeline = build_pipeline(classifier, plan, config, "block5", epochs=2)
    assert isinstance(pipeline, FeaturePipeline)
    assert pipeline.features.dtype == "bfloat16"
    exact = build_pipeline(build(plan, config), plan, config, "block5", epochs=2)
    assert isinstance(exact, FeaturePipeline)
    np.testing.assert_allclose(
        pipeline.features.astype(np.float32), exact.features, atol=0.05 * float(np.abs(exact.features).max())
    )
    history = fit(classifier, plan, config, Checkpoint(tmp_path / "checkpoint")).history
    assert np.isfinite(history[-1].loss)
    assert {weight.dtype for weight in classifier.model.get_weights()} == {np.dtype("float32")}


def test_several_devices_train_one_model(tmp_path: Path, dataset: Path) -> None:
    code = """
import sys, numpy as np, tensorflow as tf
from pathlib import Path
from typing import Any
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from classify_training.fitting.checkpoint import Checkpoint, State
from classify_training.config import DataConfig, FitConfig, TrainConfig
from classify_training.fitting.fit import fit
from classify_training.model.classifier import build_classifier
from classify_training.data.plan import make_plan
folder, dataset = map(Path, sys.argv[1:])
data = DataConfig(dataset=dataset, image_size=32, val=0.2, test=0.2, min_images=4, cache=folder)
config = TrainConfig(data=data, fit=FitConfig(weights="random", epochs=1, batch_size=8), output=folder, quiet=True)
plan = make_plan(data, quiet=True)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    classifier = build_classifier(4, 32, "random")
    before = classifier.model.get_weights()
    (epoch,) = fit(classifier, plan, config, Checkpoint(folder / "checkpoint")).history
assert np.isfinite(epoch.loss) and epoch.val_loss is not None
assert not np.array_equal(before[0], classifier.model.get_weights()[0])
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(dataset)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_phases_follow_the_weights_and_what_is_unfrozen() -> None:
    def names(**options: object) -> list[tuple[str, str]]:
        return [(phase.name, phase.unfreeze) for phase in phases(FitConfig(**options))]  # type: ignore[arg-type]

    assert names() == [("head", "none"), ("fine-tuning", "block5")]
    assert names(unfreeze="none") == [("head", "none")]
    assert names(weights="random") == [("fine-tuning", "all")]
    assert names(head_epochs=0, unfreeze="all") == [("fine-tuning", "all")]
