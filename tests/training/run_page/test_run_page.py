"""The page of a run tells what its files say, needs nothing else, and shows names as they are."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from classify_training.config import DataConfig, FitConfig, TrainConfig
from classify_training.data.plan import make_plan
from classify_training.evaluation.baseline import fit_baseline
from classify_training.evaluation.evaluate import Evaluation
from classify_training.evaluation.frozen_features import compute_features
from classify_training.evaluation.remarks import make_remarks
from classify_training.fitting.checkpoint import Epoch, State
from classify_training.fitting.phases import Phase
from classify_training.model.classifier import build_classifier
from classify_training.run_page.write import RunFacts, write_run_page

STATE = State(
    planned=(Phase("head", "none", 9, 1e-3), Phase("all layers", "all", 2, 3e-4)),
    ended=(
        "the validation loss did not fall for 4 epochs",
        "--epochs was reached while the validation loss was still falling: more --epochs may help",
    ),
    history=(Epoch(phase="head", epoch=1, loss=1, accuracy=0.5, val_loss_calibrated=0.75, seconds=2),),
)


class Page(HTMLParser):
    """The text of a page, and the addresses that it takes anything from."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.text, self.sources, self.open = "", [], []  # type: ignore[var-annotated]
        self.feed(content)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def facts(dataset: Path, tmp_path: Path) -> RunFacts:
    """Of a model that calls every test image black."""
    data = DataConfig(dataset=dataset, image_size=32, val=0.2, test=0.2, min_images=4, cache=tmp_path / "cache")
    plan = make_plan(data, quiet=True)
    test = plan.indices("test")
    logits = np.zeros((len(test), len(plan.class_names)), np.float32)
    logits[:, plan.class_names.index("black")] = 3
    evaluation = Evaluation(plan.class_names, test, plan.targets[test], logits, 1.0)
    config = TrainConfig(data=data, fit=FitConfig(weights="random", epochs=2), output=tmp_path / "m")
    features = compute_features(build_classifier(len(plan.class_names), 32, "random"), plan, 8, seed=1, quiet=True)
    baseline = fit_baseline(features, plan, seed=1, balanced=True, quiet=True)
    remarks = make_remarks(plan, config, evaluation, baseline, STATE)
    return RunFacts(plan=plan, config=config, state=STATE, evaluation=evaluation, baseline=baseline, remarks=remarks)


def page_of(facts: RunFacts, folder: Path) -> Page:
    write_run_page(facts, "pets 3", 90.0, {"curves": folder / "missing.png"}, folder)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_of_a_real_run_agrees_with_its_metrics(model: Path) -> None:
    (run,) = (model.parents[1] / "runs").iterdir()
    metrics = json.loads((run / "metrics.json").read_text())
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert f"Right on {metrics['correct']} of {metrics['images']} test images: {metrics['accuracy']:.1%}" in page.text
    assert "Training of classifier 1" in page.text
    for remark in metrics["remarks"]:
        assert remark["text"][1:] in page.text
    for reason in metrics["ended"]:
        assert reason in page.text
    pictures = [source for source in page.sources if source.startswith("data:image/jpeg")]
    assert len(pictures) == metrics["images"] - metrics["correct"]
    # Curves and augmented images.
    assert sum(source.startswith("data:image/png") for source in page.sources) == 2
    assert all(source.startswith("data:") for source in page.sources)


def test_warnings_come_first_and_say_what_to_do(facts: RunFacts, tmp_path: Path) -> None:
    is_warning = [remark.is_warning for remark in facts.remarks]
    assert is_warning == sorted(is_warning, reverse=True)
    texts = {topic: [r.text for r in facts.remarks if r.topic == topic] for topic in {r.topic for r in facts.remarks}}
    assert any("is better: it is right on" in text and "--unfreeze" in text for text in texts["baseline"])
    assert "--weights imagenet" in texts["weights"][0]
    assert "Training could go on: all layers after 0 epochs, because --epochs was reached" in texts["end"][0]
    assert texts["end"][1] == "Training ended: head after 1 epoch (the validation loss did not fall for 4 epochs)"
    assert "cannot be told apart" in texts["interval"][0]
    assert "black (2), grey (1)" in texts["classes"][0]
    assert re.search(r"right on [\d.]+% when fitted to \d+ images", texts["data"][0])
    text = page_of(facts, tmp_path).text
    assert text.index("a simple classifier on the network before training, is better") < text.index(
        "Linear baseline on the network before training"
    )


def test_every_miss_is_shown_and_every_setting(facts: RunFacts, tmp_path: Path) -> None:
    page = page_of(facts, tmp_path)
    wrong = int((facts.evaluation.predicted != facts.evaluation.targets).sum())
    assert len(page.sources) == wrong
    assert f"{wrong} of {wrong}, the surest first" in page.text
    assert "time-budget" in page.text
    assert "min-images" in page.text


def test_names_are_text_and_not_markup(facts: RunFacts, tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", *facts.evaluation.class_names[1:])
    hostile = replace(
        facts,
        evaluation=replace(facts.evaluation, class_names=names),
        plan=replace(facts.plan, class_names=names),
    )
    page = page_of(hostile, tmp_path)
    # The data to decide about, and the script of the page.
    assert page.open.count("script") == 2
    assert "<script>alert(1)</script>" in page.text


def test_a_name_that_is_not_utf_8_is_shown_with_its_bytes(facts: RunFacts, tmp_path: Path) -> None:
    dataset = facts.plan.dataset
    old = "caf\udce9.png"
    examples = [replace(each, file=replace(each.file, path=dataset.root / old)) for each in dataset.examples]
    dataset = replace(dataset, examples=tuple(examples))
    page = page_of(replace(facts, plan=replace(facts.plan, dataset=dataset)), tmp_path)
    assert r"caf\xe9.png" in page.text


def test_a_run_without_test_images_says_so(facts: RunFacts, tmp_path: Path) -> None:
    evaluation = replace(
        facts.evaluation,
        indices=np.zeros(0, np.int64),
        targets=np.zeros(0, np.int64),
        logits=np.zeros((0, 4), np.float32),
    )
    baseline = replace(facts.baseline, tested=np.zeros(0, np.int64), predicted=np.zeros(0, np.int64))
    page = page_of(replace(facts, evaluation=evaluation, baseline=baseline), tmp_path)
    assert "how good the model is, is unknown" in page.text
    assert make_remarks(facts.plan, facts.config, evaluation, baseline, STATE)
