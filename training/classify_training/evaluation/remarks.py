"""What to know about a training that has ended: why it ended, and how far its figures can be trusted."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from classify_training.config import TrainConfig
from classify_training.data.plan import Plan
from classify_training.evaluation.baseline import Baseline
from classify_training.evaluation.evaluate import Evaluation
from classify_training.fitting.checkpoint import State

_WIDE_INTERVAL: Final = 0.1
_FEW_FOR_RANDOM: Final = 5000
_GOOD: Final = 0.97


@dataclass(frozen=True, kw_only=True)
class Remark:
    """One sentence about a training.

    Attributes:
        topic: `baseline`, `end`, `data`, `interval`, `classes` or `weights`.
        text: the sentence.
        is_warning: whether the model is worse than it could be.
        is_detail: whether it is only on the run's page and in `metrics.json`, because the screen has said it already.
    """

    topic: str
    text: str
    is_warning: bool = False
    is_detail: bool = False


def make_remarks(
    plan: Plan, config: TrainConfig, evaluation: Evaluation, baseline: Baseline, state: State
) -> tuple[Remark, ...]:
    """Collect what to know about a training, the most important first.

    Args:
        plan: what was trained on.
        config: the configuration.
        evaluation: of the model on the test split.
        baseline: what a linear classifier reaches on the network before training.
        state: the final state of the fit.
    """
    found = [
        *_about_baseline(config, baseline, evaluation, state),
        *_about_weights(plan, config, evaluation),
        *_about_end(state),
        *_about_data(plan, baseline),
        *_about_test(plan, evaluation),
    ]
    return tuple(sorted(found, key=lambda remark: not remark.is_warning))


def is_wide(low: float, high: float) -> bool:
    """Whether an interval of the accuracy, 0-1, is too wide to compare trainings."""
    return high - low > _WIDE_INTERVAL


def _about_baseline(config: TrainConfig, baseline: Baseline, evaluation: Evaluation, state: State) -> Iterator[Remark]:
    compared = baseline.compare(evaluation)
    if not compared.images:
        return
    reached, own = (f"{right / compared.images:.1%}" for right in (compared.baseline, compared.model))
    yield Remark(
        topic="baseline",
        text=f"Linear baseline on the network before training: {reached} of {compared.images} test images;"
        f" this model: {own}",
    )
    if compared.is_below:
        chance = f"; with {compared.images} images this may be chance" if compared.may_be_chance else ""
        more = "more --epochs" if any(map(_is_cut_short, state.ended)) else "more --patience"
        longer = "a longer --time-budget" if config.fit.time_budget else more
        yield Remark(
            topic="baseline",
            text="The linear baseline, a simple classifier on the network before training, is better: it is right on"
            f" {compared.baseline} test images, this model on {compared.model}{chance}."
            f" Try {longer}, --unfreeze all, or another --learning-rate",
            is_warning=True,
        )


def _about_weights(plan: Plan, config: TrainConfig, evaluation: Evaluation) -> Iterator[Remark]:
    images, accuracy = len(plan.indices("train")), evaluation.metrics().get("accuracy", 1.0)
    if config.fit.weights == "random" and images < _FEW_FOR_RANDOM and accuracy < _GOOD:
        yield Remark(
            topic="weights",
            text=f"the network started from random weights, and {images:,} training images are few for that: --weights"
            " imagenet usually reaches more",
            is_warning=True,
        )


def _is_cut_short(reason: str) -> bool:
    """Whether a phase that ended for this reason could have gone on; see `fitting.schedule`."""
    return "may help" in reason


def _about_end(state: State) -> Iterator[Remark]:
    if not state.planned:
        yield Remark(topic="end", text="nothing was trained, because all phases have 0 epochs", is_warning=True)
    stopped = []
    for phase, reason in zip(state.planned, state.ended, strict=False):
        epochs = sum(epoch.phase == phase.name for epoch in state.history)
        after = f"{phase.name} after {epochs} epoch{'s'[: epochs != 1]}"
        if _is_cut_short(reason):
            yield Remark(topic="end", text=f"Training could go on: {after}, because {reason}", is_warning=True)
        else:
            stopped.append(f"{after} ({reason})" if epochs else f"{phase.name} {reason}")
    if stopped:
        yield Remark(topic="end", text=f"Training ended: {', '.join(stopped)}")


def _about_data(plan: Plan, baseline: Baseline) -> Iterator[Remark]:
    """The learning curve in the data, on the cheap model, and what it says about more images."""
    images = len(plan.indices("train"))
    (half, before), (whole, after) = baseline.learning_curve[1], baseline.learning_curve[-1]
    # Both accuracies are measured on the same images.
    noise = math.sqrt(max(after * (1 - after), 1 / baseline.images) / baseline.images)
    # What is right already cannot become more.
    gain = min(after - before, 1 - after)
    if images > baseline.images:
        answer = f"these are a sample; the dataset has {images:,} training images"
    elif gain > noise:
        answer = f"twice as many images may add {100 * gain:.1f} percentage points"
    else:
        answer = "more images of the same kind would hardly help it"
    yield Remark(
        topic="data",
        text=f"The linear baseline is right on {before:.1%} when fitted to {half:,} images and on {after:.1%} with"
        f" {whole:,}: {answer}",
    )


def _about_test(plan: Plan, evaluation: Evaluation) -> Iterator[Remark]:
    if not len(evaluation.targets):
        return
    low, high = evaluation.report()["accuracy_interval"]
    if is_wide(low, high):
        yield Remark(
            topic="interval",
            text=f"With {len(evaluation.targets)} test images the accuracy probably lies between {low:.0%} and"
            f" {high:.0%}: trainings that differ by less cannot be told apart without more test images",
            is_detail=True,
        )
    if few := plan.few_test_images():
        yield Remark(
            topic="classes",
            text=f"The recall of these classes means little, with so few test images: {few}",
            is_detail=True,
        )
