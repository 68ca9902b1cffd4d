"""How long a training will take, said before the work starts, and what a time budget has room for."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from classify_training.config import AUTO, FitConfig, TrainConfig
from classify_training.data.plan import Plan
from classify_training.errors import TimeBudgetError
from classify_training.fitting.cost import training_seconds
from classify_training.fitting.input_pipeline import caches_features
from classify_training.fitting.phases import Phase, head_phase
from classify_training.model.classifier import Classifier
from classify_training.progress import duration_text

_USUAL_EPOCHS: Final = (6, 20)
"""After so many epochs most phases end by themselves."""

_FEWEST_EPOCHS: Final = 4
"""All layers learn less in fewer epochs than the head alone learns in the same time."""

_FEWEST_HEAD_EPOCHS: Final = 5
"""In fewer epochs not even the head learns to tell the classes apart."""


@dataclass(frozen=True)
class EpochCosts:
    """How long epochs take.

    Attributes:
        classifier: the model.
        plan: what is trained on.
        config: the configuration.
        image_seconds: in which the network computes the features of an image.
    """

    classifier: Classifier
    plan: Plan
    config: TrainConfig
    image_seconds: float

    def epoch(self, unfreeze: str) -> float:
        """Seconds of an epoch, once features are cached, if the stages from `unfreeze` on are trained."""
        first = self.classifier.network.first_trained_stage(unfreeze)
        image = training_seconds(self.classifier, first, self.image_seconds, self._is_cached(unfreeze))
        return len(self.plan.epoch_examples) * image

    def caching(self, unfreeze: str) -> float:
        """Seconds in which the features of all cached augmentations are computed."""
        epochs = self.config.fit.cached_augmentations if self._is_cached(unfreeze) else 0
        return epochs * len(self.plan.epoch_examples) * self.image_seconds

    def _is_cached(self, unfreeze: str) -> bool:
        first = self.classifier.network.first_trained_stage(unfreeze)
        return caches_features(self.classifier, self.config, first)


def affordable(phases: Sequence[Phase], config: FitConfig, costs: EpochCosts, time_left: float) -> tuple[Phase, ...]:
    """Train the head alone where a time budget has no room for a few epochs of all layers.

    Args:
        phases: what is planned.
        config: the options; only what they leave to the data is changed.
        costs: how long epochs take.
        time_left: seconds that the fit may take; infinity for no limit.
    """
    is_free = config.unfreeze == AUTO and config.weights != "random" and config.head_epochs
    if is_free and [phase.unfreeze for phase in phases] == ["all"] and time_left < _FEWEST_EPOCHS * costs.epoch("all"):
        return (head_phase(config),)
    return tuple(phases)


def check_budget(phases: Sequence[Phase], config: FitConfig, costs: EpochCosts, time_left: float) -> None:
    """Refuse a time budget in which nothing useful can be learnt, instead of publishing a model that knows nothing.

    Args:
        phases: what will be trained.
        config: the options.
        costs: how long epochs take.
        time_left: seconds that the fit may take.

    Raises:
        TimeBudgetError: the budget is too short for the first phase.
    """
    if not phases:
        return
    first = phases[0]
    epochs = min(first.epochs, _FEWEST_HEAD_EPOCHS if first.unfreeze == "none" else 1)
    caching = costs.caching(first.unfreeze) / max(1, config.cached_augmentations)
    needed = caching + epochs * costs.epoch(first.unfreeze)
    if time_left < needed:
        least = 10 * math.ceil((config.time_budget - time_left + needed) / 10)
        raise TimeBudgetError(
            f"--time-budget {config.time_budget:.0f}s is too short: for these images, training, evaluation and export"
            f" take at least {least} s on this machine: give more, or make --image-size smaller"
        )


def estimate(phases: Sequence[Phase], config: FitConfig, costs: EpochCosts) -> Iterator[str]:
    """Yield lines that say how long an epoch of each phase, and all of them, will take.

    Args:
        phases: what will be trained.
        config: the options.
        costs: how long epochs take.
    """
    parts, least, most = [], 0.0, 0.0
    for phase in phases:
        epoch, caching = costs.epoch(phase.unfreeze), costs.caching(phase.unfreeze)
        parts.append(f"{duration_text(epoch)} for an epoch of the phase {phase.name}")
        fewest, usual = (min(phase.epochs, count) for count in _USUAL_EPOCHS)
        least += 0.0 if phase.needed_gain else caching + fewest * epoch
        most += caching + usual * epoch
    if not parts:
        return
    yield f"estimated time: {', '.join(parts)}"
    budget = config.time_budget
    if budget and budget < most:
        yield f"estimated time: {duration_text(budget)} in all, which is the --time-budget"
    else:
        yield f"estimated time: usually {duration_text(least)} to {duration_text(most)} in all; --time-budget limits it"
