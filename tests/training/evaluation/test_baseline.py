"""The linear baseline says what a training must reach, and a model that does not reach it is told about."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support import write_picture

from classify_training.cli.main import main
from classify_training.config import DataConfig
from classify_training.data.balance import choose_in_turns
from classify_training.data.folds import deal_folds
from classify_training.data.plan import Plan, make_plan
from classify_training.evaluation.baseline import Comparison, fit_baseline
from classify_training.evaluation.evaluate import Evaluation
from classify_training.evaluation.frozen_features import FrozenFeatures, compute_features
from classify_training.model.classifier import build_classifier


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=40))
def test_near_duplicates_share_a_fold_and_classes_are_spread(images: list[tuple[int, int]]) -> None:
    # A group has one class, so that it can be dealt as a whole.
    targets = np.array([target for target, _ in images])
    groups = np.array([10 * target + group for target, group in images])
    folds = deal_folds(targets, groups, seed=1)
    for group in np.unique(groups):
        assert len(np.unique(folds[groups == group])) == 1
    largest = np.bincount(groups).max()
    for target in np.unique(targets):
        counts = np.bincount(folds[targets == target], minlength=3)
        assert counts.max() - counts.min() <= largest


def test_the_features_of_a_random_network_tell_brightness(dataset: Path, tmp_path: Path) -> None:
    config = DataConfig(dataset=dataset, image_size=32, val=0.2, test=0.2, min_images=4, cache=tmp_path / "cache")
    plan = make_plan(config, quiet=True)
    classifier = build_classifier(len(plan.class_names), 32, "random")
    features = compute_features(classifier, plan, 8, seed=1, quiet=True)
    baseline = fit_baseline(features, plan, seed=1, balanced=True, quiet=True)
    assert set(baseline.log_losses) == {"block3", "block4", "block5"}
    assert baseline.images == len(plan.indices("train"))
    assert baseline.accuracy > 0.6
    test = plan.indices("test")
    logits = np.eye(len(plan.class_names), dtype=np.float32)[plan.targets[test]]
    perfect = Evaluation(plan.class_names, test, plan.targets[test], logits, 1.0)
    compared = baseline.compare(perfect)
    assert (compared.images, compared.model) == (len(test), len(test))
    assert compared.baseline == int((baseline.predicted == plan.targets[test]).sum())
    assert not compared.is_below
    reversed_ = baseline.compare(replace(perfect, logits=-logits))
    assert reversed_.model == 0
    assert reversed_.is_below == (compared.baseline > 0)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 60))
def test_small_classes_are_chosen_too(classes: list[int], most: int) -> None:
    targets = np.array(classes)
    examples = np.flatnonzero(targets >= 0)
    chosen = choose_in_turns(examples, targets, most, np.random.default_rng(1))
    assert len(np.unique(chosen)) == len(chosen) == min(most, len(examples))
    all_counts, counts = (np.bincount(each, minlength=4) for each in (targets, targets[chosen]))
    for count, whole in zip(counts, all_counts, strict=True):
        # A class has fewer images than another one only if these are all that it has.
        assert count == whole or count >= counts.max() - 1


@pytest.fixture
def unequal(tmp_path: Path) -> tuple[Plan, FrozenFeatures]:
    """Two classes, 120 images and 8, whose features say nothing."""
    for name, images in (("good", 120), ("bad", 8)):
        for number in range(images):
            write_picture(tmp_path / f"data/{name}/{number}.png", (2 * number + (images == 8)) % 256, (8, 8))
    config = DataConfig(dataset=tmp_path / "data", image_size=32, val=0.2, test=0.2, cache=tmp_path / "cache")
    plan = make_plan(config, quiet=True)
    train, test = plan.indices("train"), plan.indices("test")
    rng = np.random.default_rng(1)
    count = len(train) + len(test)
    means = {name: rng.normal(size=(count, 4)).astype(np.float32) for name in ("block3", "block4", "block5")}
    return plan, FrozenFeatures(train, test, np.zeros(0, np.int64), means, means["block5"][: len(train)] ** 2, 0.01)


def test_nothing_is_solved_by_always_predicting_the_largest_class(unequal: tuple[Plan, FrozenFeatures]) -> None:
    plan, features = unequal
    plain = fit_baseline(features, plan, seed=1, balanced=False, quiet=True)
    assert plain.accuracy > 0.9
    assert plain.recall < 0.7
    assert not plain.is_solved
    balanced = fit_baseline(features, plan, seed=1, balanced=True, quiet=True)
    # Equal weight for each class: features that say nothing cost at least log 2.
    assert balanced.log_loss > 0.6 > plain.log_loss
    # No stage is better than another one by more than chance.
    assert balanced.best_stage == plain.best_stage == "block5"


def test_images_without_a_model_are_not_right(unequal: tuple[Plan, FrozenFeatures]) -> None:
    plan, features = unequal
    # Of each class one image: outside of its fold there is only one class.
    few = np.array([np.flatnonzero(plan.targets[features.train] == target)[0] for target in (0, 1)])
    means = {name: each[few] for name, each in features.means.items()}
    none = np.zeros(0, np.int64)
    tiny = FrozenFeatures(features.train[few], none, none, means, features.squares[few], 0.01)
    baseline = fit_baseline(tiny, plan, seed=1, balanced=True, quiet=True)
    assert (baseline.accuracy, baseline.recall, baseline.best_stage) == (0, 0, "block5")


def test_a_difference_of_one_image_may_be_chance() -> None:
    assert Comparison(images=66, baseline=58, model=57, only_baseline=3).may_be_chance
    assert Comparison(images=66, baseline=58, model=58, only_baseline=0).may_be_chance
    assert not Comparison(images=200, baseline=180, model=150, only_baseline=35).may_be_chance


@pytest.mark.parametrize("rate", ["1e-12", "3e-3"])
def test_a_model_below_the_baseline_is_told_about(dataset: Path, tmp_path: Path, rate: str) -> None:
    weights = tmp_path / "vgg16.weights.h5"
    build_classifier(2, 32, "random").backbone.save_weights(weights)
    options = ["--image-size", "32", "--min-images", "4", "--batch-size", "8", "--val", "0.2", "--test", "0.2"]
    options += ["--weights", str(weights), "--head-epochs", "2", "--epochs", "0", "--head-learning-rate", rate]
    options += ["--schedule", "constant", "--no-standardise", "--head-features", "last"]
    options += ["--output", str(tmp_path / "m"), "--runs", str(tmp_path / "runs"), "--precision", "float32"]
    result = CliRunner().invoke(main, ["train", str(dataset), *options])
    assert result.exit_code == 0, result.output
    (run,) = (tmp_path / "runs").iterdir()
    metrics = json.loads((run / "metrics.json").read_text())
    test = metrics["baseline"]["test"]
    assert test["model"] == metrics["correct"]
    assert ("The linear baseline, a simple classifier" in result.stderr) == (test["model"] < test["baseline"])
    assert (
        f"Linear baseline on the network before training: {test['baseline'] / test['images']:.1%} of" in result.stdout
    )
    (reason,) = metrics["ended"]
    assert reason.startswith("--head-epochs was reached")
    if rate == "1e-12":
        assert test["model"] < test["baseline"]
