"""Cached features are what the frozen layers give, and what is trained is what should be."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_training.config import AugmentConfig, DataConfig, FitConfig, TrainConfig
from classify_training.data.plan import Plan, make_plan
from classify_training.errors import CacheError, FitError, TimeBudgetError
from classify_training.fitting.checkpoint import Checkpoint, Epoch, State
from classify_training.fitting.estimate import EpochCosts, affordable, check_budget
from classify_training.fitting.fit import fit
from classify_training.fitting.input_pipeline import FeaturePipeline, ImagePipeline, build_pipeline
from classify_training.fitting.phases import Phase, Transferability, head_phase, plan_phases
from classify_training.fitting.schedule import Clock, learning_rate, next_step
from classify_training.model.classifier import Classifier, build_classifier
from classify_training.model.vgg16 import VGG16

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
        fit=FitConfig(weights=weights, batch_size=7, head_epochs=2, epochs=2, unfreeze="block5", precision="float32"),
        output=tmp_path / "models" / "classifier",
        runs=tmp_path / "runs",
        quiet=True,
    )


def build(plan: Plan, config: TrainConfig, policy: str = "float32") -> Classifier:
    return build_classifier(len(plan.class_names), 32, config.fit.weights, policy=policy)


def fit_planned(classifier: Classifier, plan: Plan, config: TrainConfig, checkpoint: Checkpoint) -> State:
    """Fit without anything known about the frozen network."""
    return fit(classifier, plan, config, checkpoint, plan_phases(config.fit, VGG16, Transferability()))


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
with np.load(mirrored.run / "train_embeddings.npz") as embeddings:
    assert len(embeddings["vectors"]) == len(plan.indices("train"))
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(dataset)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def phases_of(transfer: Transferability | None = None, **options: Any) -> list[str]:
    phases = plan_phases(FitConfig(**options), VGG16, transfer or Transferability())
    return [phase.unfreeze for phase in phases]


def test_phases_follow_the_options_and_what_the_frozen_network_is_good_for() -> None:
    assert phases_of() == ["none", "block5", "all"]
    assert phases_of(Transferability("block5")) == ["none", "block5", "all"]
    assert phases_of(Transferability("block3")) == ["all"]
    assert phases_of(Transferability("block3"), epochs=0) == ["none"]
    assert phases_of(Transferability("block5", is_solved=True)) == ["none"]
    assert phases_of(unfreeze="none") == ["none"]
    assert phases_of(Transferability("block3"), unfreeze="block4") == ["none", "block4"]
    assert phases_of(Transferability("block5", is_solved=True), head_epochs=0) == ["block5", "all"]
    assert phases_of(weights="random") == ["all"]
    assert phases_of(head_epochs=0, unfreeze="all") == ["all"]
    *_, last = plan_phases(FitConfig(), VGG16, Transferability("block5"))
    assert last.needed_gain > 0


class Steps:
    """A phase whose validation losses are given: which learning rates it has, and why it ends.

    Args:
        options: of the fit.
        epoch_seconds: duration of an epoch.
        budget: seconds that the phase may take.
    """

    def __init__(self, epoch_seconds: float = 1.0, budget: float = math.inf, **options: Any) -> None:
        self.config = FitConfig(**options)
        self.phase = Phase("all layers", "all", self.config.epochs, 1.0)
        self.seconds, self.epoch_seconds = 0.0, epoch_seconds
        self.clock = Clock(0.0, budget, lambda: self.seconds)

    def run(self, losses: Callable[[int], float], has_validation: bool = True) -> tuple[list[float], str]:
        """Rates in the middle of each epoch, and the reason; `losses` gives the loss after an epoch, from 1."""
        state, rates = State(best_loss=9.0 if has_validation else None), []
        while not isinstance(following := next_step(self.config, self.phase, state, has_validation, self.clock), str):
            rates.append(learning_rate(self.config, self.phase, following, 0.5))
            self.seconds += self.epoch_seconds
            number = following.epoch + 1
            loss = losses(number) if has_validation else None
            done = Epoch(
                phase="", epoch=number, loss=1, accuracy=0, val_loss_calibrated=loss, seconds=self.epoch_seconds
            )
            state = replace(following, epoch=number, history=(*following.history, done))
            if loss is None or loss < (state.best_loss or 0):
                state = replace(state, best_loss=loss, best_epoch=number)
        return rates, following


def test_the_rate_falls_once_the_loss_does_not() -> None:
    rates, reason = Steps(patience=3).run(lambda epoch: max(1.0, 3 - 0.2 * epoch) + 0.001 * epoch)
    # The loss is lowest after 10 epochs; a quarter of 13 epochs more.
    assert rates == pytest.approx([0.5, *[1.0] * 12, 5 / 6, 3 / 6, 1 / 6])
    assert reason == "the validation loss did not fall for 3 epochs"


def test_a_phase_that_only_makes_it_worse_tries_a_low_rate_and_ends() -> None:
    rates, _ = Steps(patience=3).run(lambda epoch: 10.0)
    assert rates == pytest.approx([0.5, 1, 1, 0.075, 0.025])


def test_the_largest_number_of_epochs_is_kept_and_said() -> None:
    rates, reason = Steps(epochs=8).run(lambda epoch: 5 - 0.1 * epoch)
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.75, 0.25])
    assert "still falling: more --epochs" in reason


@given(st.floats(0, 200), st.floats(0.5, 30), st.integers(1, 6), st.integers(1, 40), st.booleans())
def test_a_phase_ends_when_its_time_is_used_up(
    budget: float, seconds: float, patience: int, epochs: int, has_validation: bool
) -> None:
    steps = Steps(seconds, budget, patience=patience, epochs=epochs)
    rates, reason = steps.run(lambda epoch: 5 - 0.01 * epoch, has_validation)
    assert len(rates) <= epochs
    # An epoch that has begun is cut short in a real training.
    assert steps.seconds <= budget + seconds + 1e-6
    assert reason


def test_the_rate_falls_over_the_last_part_of_the_time() -> None:
    seconds = [0.0]
    clock = Clock(10.0, 110.0, lambda: seconds[0])
    shares = []
    for seconds[0] in (10, 69, 90, 100, 110, 120):
        shares.append(clock.rate_share())
    assert shares == pytest.approx([1, 1, 0.5, 0.25, 0, 0])
    assert clock.is_over()
    assert Clock().rate_share() == 1


def test_an_epoch_is_cut_short_when_the_time_is_used_up(config: TrainConfig, tmp_path: Path) -> None:
    plan = make_plan(config.data, quiet=True)
    phases = (Phase("all layers", "all", 9, 1e-4),)
    state = fit(build(plan, config), plan, config, Checkpoint(tmp_path / "a"), phases, time_left=-1.0)
    assert not state.history
    assert "before its first epoch" in state.ended[0]
    state = fit(build(plan, config), plan, config, Checkpoint(tmp_path / "b"), phases, time_left=1e-3)
    assert len(state.history) <= 1
    assert "time budget was used up" in state.ended[0]


def test_without_validation_images_the_rate_still_falls() -> None:
    rates, reason = Steps().run(lambda epoch: 0.0, has_validation=False)
    assert len(rates) == 15
    assert rates[-1] < 0.3
    assert "no validation images" in reason


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


def test_what_a_phase_has_gained() -> None:
    assert State(start_loss=0.8, best_loss=0.6).gain == pytest.approx(0.25)
    # Without validation images, and after a loss of 0, there is nothing to gain from.
    assert State().gain == State(start_loss=0.0, best_loss=0.0).gain == 0


def test_the_kept_epoch_may_be_of_an_earlier_phase() -> None:
    def epoch(phase: str, number: int, loss: float | None) -> Epoch:
        return Epoch(phase=phase, epoch=number, loss=1, accuracy=0, val_loss_calibrated=loss, seconds=1)

    first = [epoch("a", 1, 0.9), epoch("a", 2, 0.7), epoch("a", 3, 0.8)]
    assert State().kept is None
    assert State(epoch=1, best_loss=0.5, history=(first[0],)).kept is None
    assert State(epoch=3, best_epoch=2, best_loss=0.7, history=tuple(first)).kept == first[1]
    later = [*first, epoch("b", 1, 0.8), epoch("b", 2, 0.6)]
    assert State(phase=1, epoch=2, best_loss=0.71, history=tuple(later)).kept == first[1]
    assert State(phase=1, epoch=2, best_epoch=2, best_loss=0.6, history=tuple(later)).kept == later[-1]
    # Without validation images, the last epoch is the best one.
    assert State(epoch=1, best_epoch=1, history=(epoch("a", 1, None),)).kept == epoch("a", 1, None)
    unmarked = (epoch("a", 1, None), epoch("a", 2, None))
    assert State(phase=1, history=unmarked).kept == unmarked[1]


class Costs(EpochCosts):
    """A second for an epoch of the head, 10 of block5, 40 of all layers; features are computed in 5 seconds."""

    def __init__(self) -> None:
        pass

    def epoch(self, unfreeze: str) -> float:
        return {"none": 1.0, "block5": 10.0, "all": 40.0}[unfreeze]

    def first_epochs(self, unfreeze: str) -> float:
        return {"none": 5 + 5.0, "block5": 5 + 40.0, "all": 160.0}[unfreeze]


@pytest.mark.parametrize(
    ("time_left", "stage", "kept"),
    [
        (1000, "block5", ["none", "block5", "all"]),
        (200, "block5", ["none", "block5"]),
        (50, "block5", ["none"]),
        (161, "block3", ["all"]),
        (159, "block3", ["none"]),
    ],
)
def test_phases_without_room_in_the_time_budget_are_left_out(time_left: float, stage: str, kept: list[str]) -> None:
    config = FitConfig(time_budget=time_left + 30)
    phases = affordable(plan_phases(config, VGG16, Transferability(stage)), config, Costs(), time_left)
    assert [phase.unfreeze for phase in phases] == kept
    check_budget(phases, config, Costs(), time_left)


def test_a_budget_without_room_for_a_few_epochs_of_the_head_is_refused() -> None:
    config = FitConfig(time_budget=39)
    check_budget([head_phase(config)], config, Costs(), 10)
    with pytest.raises(TimeBudgetError, match=r"39s is too short.*at least 40 s"):
        check_budget([head_phase(config)], config, Costs(), 9)


def test_without_time_for_more_augmentations_the_first_ones_repeat(config: TrainConfig, tmp_path: Path) -> None:
    plan = make_plan(config.data, quiet=True)
    classifier = build(plan, config)
    pipeline = FeaturePipeline(classifier, plan, config, classifier.network.head, 3)
    for number in (0, 1):
        list(pipeline.compute(number))
    assert pipeline.missing(2)
    pipeline.compute_no_more()
    assert not pipeline.missing(2)
    again, first = (next(iter(pipeline.epoch(number)))[0].numpy() for number in (2, 2))
    np.testing.assert_array_equal(again, first)


def test_float16_scales_the_loss_in_every_phase() -> None:
    classifier = build_classifier(2, 32, "random", policy="mixed_float16")
    for first in (1, classifier.network.head - 1, classifier.network.head):
        model = classifier.stages(first, classifier.network.head + 1)
        model.compile("adam", "categorical_crossentropy")
        assert type(model.optimizer).__name__ == "LossScaleOptimizer"
