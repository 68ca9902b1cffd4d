"""What is trained is what should be, the best weights are kept, and a kill loses nothing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_support import build

from classify_training.config import TrainConfig
from classify_training.data.plan import Plan, make_plan
from classify_training.errors import FitError
from classify_training.fitting.checkpoint import Checkpoint, State
from classify_training.fitting.fit import fit
from classify_training.fitting.input_pipeline import FeaturePipeline, build_pipeline
from classify_training.fitting.phases import Phase, Transferability, plan_phases
from classify_training.model.classifier import Classifier, build_classifier
from classify_training.model.vgg16 import VGG16


def fit_planned(classifier: Classifier, plan: Plan, config: TrainConfig, checkpoint: Checkpoint) -> State:
    """Fit without anything known about the frozen network."""
    return fit(classifier, plan, config, checkpoint, plan_phases(config.fit, VGG16, Transferability()))


def test_only_what_is_unfrozen_changes_and_all_epochs_are_told(config: TrainConfig, tmp_path: Path) -> None:
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config)
    before = {layer.name: layer.get_weights() for layer in classifier.backbone.layers}
    history = fit_planned(classifier, plan, config, Checkpoint(tmp_path / "checkpoint")).history
    assert [(epoch.phase, epoch.epoch) for epoch in history] == [
        ("head", 1), ("head", 2), ("from block5", 1), ("from block5", 2),
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
    state = fit_planned(classifier, plan, config, Checkpoint(tmp_path / "checkpoint"))
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
        fit_planned(killed, plan, config, KilledBetweenPhases(tmp_path / "checkpoint"))
    resumed = build(plan, config)
    state = fit_planned(resumed, plan, config, Checkpoint(tmp_path / "checkpoint"))
    assert [epoch.phase for epoch in state.history] == ["head", "head", "from block5", "from block5"]
    for before, after in zip(killed.head.get_weights(), resumed.head.get_weights(), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-6)


def test_a_training_that_diverges_says_so(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, fit=replace(config.fit, head_learning_rate=1e38, schedule="constant", head_epochs=3))
    plan = make_plan(config.data, quiet=True)
    with pytest.raises(FitError, match="--head-learning-rate"):
        fit_planned(build(plan, config), plan, config, Checkpoint(tmp_path / "checkpoint"))


def test_lower_precision_trains_the_same_model(config: TrainConfig, tmp_path: Path) -> None:
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config, "mixed_bfloat16")
    pipeline = build_pipeline(classifier, plan, config, "block5")
    assert isinstance(pipeline, FeaturePipeline)
    assert pipeline.features.dtype == "bfloat16"
    exact = build_pipeline(build(plan, config), plan, config, "block5")
    assert isinstance(exact, FeaturePipeline)
    np.testing.assert_allclose(
        pipeline.features.astype(np.float32), exact.features, atol=0.05 * float(np.abs(exact.features).max())
    )
    history = fit_planned(classifier, plan, config, Checkpoint(tmp_path / "checkpoint")).history
    assert np.isfinite(history[-1].loss)
    assert {weight.dtype for weight in classifier.model.get_weights()} == {np.dtype("float32")}


def test_several_devices_train_one_model(tmp_path: Path, dataset: Path) -> None:
    code = """
import sys, numpy as np, tensorflow as tf
from pathlib import Path
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from classify_training import train as training
from classify_training.config import DataConfig, FitConfig, TrainConfig
from classify_training.data.plan import make_plan
folder, dataset = map(Path, sys.argv[1:])
data = DataConfig(dataset=dataset, image_size=32, val=0.2, test=0.2, min_images=4, cache=folder / "cache")
fit = FitConfig(weights="random", epochs=1, batch_size=8, precision="float32")
config = TrainConfig(data=data, fit=fit, output=folder / "models/m", runs=folder / "runs", quiet=True)
plan = make_plan(data, quiet=True)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
plain = training.train(plan, config)
training._strategy_scope = lambda: strategy.scope
mirrored = training.train(plan, config)
assert (mirrored.path.name, mirrored.baseline.log_losses) == ("2", plain.baseline.log_losses)
assert len(mirrored.evaluation.logits) == len(plan.indices("test"))
head, epoch = (line.split(",") for line in (mirrored.run / "history.csv").read_text().splitlines())
values = dict(zip(head, epoch, strict=True))
assert np.isfinite(float(values["loss"])) and np.isfinite(float(values["val_loss"]))
# The output layer was zero before the training.
assert np.ptp(mirrored.evaluation.logits) > 0
with np.load(mirrored.run / "train_embeddings.npz") as embeddings:
    assert len(embeddings["vectors"]) == len(plan.indices("train"))
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(dataset)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_an_epoch_is_cut_short_when_the_time_is_used_up(config: TrainConfig, tmp_path: Path) -> None:
    plan = make_plan(config.data, quiet=True)
    phases = (Phase("all layers", "all", 9, 1e-4),)
    state = fit(build(plan, config), plan, config, Checkpoint(tmp_path / "a"), phases, time_left=-1.0)
    assert not state.history
    assert "before its first epoch" in state.ended[0]
    state = fit(build(plan, config), plan, config, Checkpoint(tmp_path / "b"), phases, time_left=1e-3)
    assert len(state.history) <= 1
    assert "time budget was used up" in state.ended[0]


def test_the_kept_phase_pays_or_the_next_is_left_out(config: TrainConfig, tmp_path: Path) -> None:
    plan = make_plan(config.data, quiet=True)
    phases = (
        Phase("head", "none", 1, 1e-3),
        Phase("from block5", "block5", 1, 1e-12),
        Phase("all", "all", 1, 1e-12, 0.5),
    )
    state = fit(build(plan, config), plan, config, Checkpoint(tmp_path / "checkpoint"), phases)
    assert [epoch.phase for epoch in state.history] == ["head", "from block5"]
    assert len(state.ended) == 3
    assert "left out" in state.ended[-1]


def test_float16_scales_the_loss_in_every_phase() -> None:
    classifier = build_classifier(2, 32, "random", policy="mixed_float16")
    for first in (1, classifier.network.head - 1, classifier.network.head):
        model = classifier.stages(first, classifier.network.head + 1)
        model.compile("adam", "categorical_crossentropy")
        assert type(model.optimizer).__name__ == "LossScaleOptimizer"
