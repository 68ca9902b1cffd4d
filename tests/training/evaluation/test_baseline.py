"""The linear baseline says what a training must reach, and a model that does not reach it is told about."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from classify_training.cli.main import main
from classify_training.config import DataConfig
from classify_training.data.plan import make_plan
from classify_training.evaluation.baseline import compute_features, deal_folds, fit_baseline
from classify_training.evaluation.evaluate import Evaluation
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
    baseline = fit_baseline(compute_features(classifier, plan, 8, seed=1, quiet=True), plan, seed=1, quiet=True)
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
    assert ("worse than logistic regression" in result.stderr) == (test["model"] < test["baseline"])
    assert (
        f"Linear baseline on the network before training: {test['baseline'] / test['images']:.1%} of" in result.stdout
    )
    (reason,) = metrics["ended"]
    assert reason.startswith("--head-epochs was reached")
    if rate == "1e-12":
        assert test["model"] < test["baseline"]
