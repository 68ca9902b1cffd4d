"""The review of a training run: what its page and its review.csv say of the images that it was given."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classify_serving.exchange.review import ReviewRow, read_review
from classify_serving.files import sha256_of
from classify_serving.review_page.review_file import ReviewFile
from classify_training.audit.training_labels import judge_training_labels
from classify_training.config import DataConfig, FitConfig, TrainConfig
from classify_training.data.plan import Plan, make_plan
from classify_training.evaluation.baseline import fit_baseline
from classify_training.evaluation.evaluate import Evaluation
from classify_training.evaluation.frozen_features import compute_features
from classify_training.fitting.checkpoint import State
from classify_training.model.classifier import build_classifier
from classify_training.run_page.write import RunFacts, write_run_page


@pytest.fixture
def facts(data: Path, tmp_path: Path) -> RunFacts:
    """Of a model that knows the labels of the test images as they are given, but for the blue ones."""
    config = DataConfig(dataset=data, image_size=32, val=0.2, test=0.2, min_images=12, cache=tmp_path / "cache")
    plan = make_plan(config, quiet=True)
    test = plan.indices("test")
    logits = np.eye(len(plan.class_names), dtype=np.float32)[plan.targets[test]] * 5
    blue = plan.targets[test] == plan.class_names.index("blue")
    logits[blue] = np.roll(logits[blue], 1, axis=1)
    features = compute_features(build_classifier(len(plan.class_names), 32, "random"), plan, 8, seed=1, quiet=True)
    return RunFacts(
        plan=plan,
        config=TrainConfig(data=config, fit=FitConfig(weights="random"), output=tmp_path / "m", quiet=True),
        state=State(),
        evaluation=Evaluation(plan.class_names, test, plan.targets[test], logits, 1.0),
        baseline=fit_baseline(features, plan, seed=1, balanced=True, quiet=True),
        remarks=(),
        labels=judge_training_labels(features, plan, seed=1, quiet=True),
    )


def review_of(facts: RunFacts, folder: Path) -> tuple[dict[str, ReviewRow], dict[str, Any]]:
    """The lines of review.csv, and the entries of the page, by path."""
    write_run_page(facts, "colours 1", 9.0, {}, folder)
    page = (folder / "report.html").read_text()
    entries = json.loads(re.search(r'id="review-data">(.*?)</script>', page)[1])  # type: ignore[index]
    rows = read_review(folder / "review.csv")
    assert [entry["path"] for entry in entries["rows"]] == [row.path for row in rows]
    assert entries["labels"] == ["blue", "green", "rare", "red"]
    return {row.path: row for row in rows}, {entry["path"]: entry for entry in entries["rows"]}


def missed(plan: Plan, places: NDArray[np.int64]) -> set[str]:
    return {plan.dataset.relative_path(plan.dataset.examples[place].file.path) for place in places}


def test_a_run_lists_what_it_knows_about_its_images(facts: RunFacts, data: Path, tmp_path: Path) -> None:
    rows, entries = review_of(facts, tmp_path)
    for path, label in (("red/really green.png", "green"), ("rare/really red.png", "red")):
        assert (rows[path].issue_type, rows[path].proposed) == ("wrong-label", f"relabel:{label}")
        assert rows[path].sha256 == sha256_of(data / path)
        assert [near["label"] for near in entries[path]["nearest"]] == [label] * 3
    for path, other in (("blue/0.png", "green"), ("green/also blue.png", "blue")):
        assert rows[path].issue_type == "duplicate"
        assert f"the same picture is in the dataset as {other} too" in rows[path].reason
        assert entries[path]["picture"].startswith("data:image/")
    assert rows["red/broken.png"].issue_type == "unreadable"
    evaluation = facts.evaluation
    misses = missed(facts.plan, evaluation.indices[evaluation.predicted != evaluation.targets])
    assert len(misses) > 2
    for path in misses:
        # The page shows their thumbnails once.
        assert entries[path].get("card", "").startswith("miss-")
        assert "picture" not in entries[path]
    confusions = {path for path, row in rows.items() if row.issue_type == "confusion"}
    assert confusions == {path for path in misses if not rows[path].proposed and rows[path].issue_type != "duplicate"}
    assert not any(rows[path].proposed for path in confusions)
    # Doubted labels first, broken files last.
    assert [row.issue_type for row in rows.values()][:2] == ["duplicate"] * 2
    assert list(rows)[-1] == "red/broken.png"


def test_without_judged_labels_there_are_the_misses_copies_and_broken_files(facts: RunFacts, tmp_path: Path) -> None:
    rows, _ = review_of(replace(facts, labels=None), tmp_path)
    assert "red/really green.png" not in rows
    assert {row.issue_type for row in rows.values()} == {"duplicate", "confusion", "unreadable"}
    assert ReviewFile(tmp_path / "review.csv").rows == list(rows.values())


def test_a_confirmed_label_is_not_doubted(facts: RunFacts, data: Path, tmp_path: Path) -> None:
    confirmed = (sha256_of(data / "red/really green.png"), "red")
    rows, _ = review_of(replace(facts, confirmed={confirmed}), tmp_path)
    assert "red/really green.png" not in rows
    assert "rare/really red.png" in rows


def test_an_image_that_was_deleted_during_the_training_keeps_its_picture(
    facts: RunFacts, data: Path, tmp_path: Path
) -> None:
    shutil.move(data / "red/really green.png", tmp_path / "gone.png")
    shutil.move(data / "blue/0.png", tmp_path / "gone too.png")
    _, entries = review_of(facts, tmp_path)
    assert entries["red/really green.png"]["picture"].startswith("data:image/")
    # It was left out of the training, so that nothing of it is kept.
    assert "picture" not in entries["blue/0.png"]
