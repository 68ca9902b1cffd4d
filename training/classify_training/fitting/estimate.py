"""How long a training will take, said before the work starts, and what a time budget has room for."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from classify_training.config import AUTO, FitConfig, TrainConfig
from classify_training.data.plan import Plan
from classify_training.errors import TimeBudgetError
from classify_training.fitting.cost import training_seconds
from classify_training.fitting.input_pipeline import cached_augmentations
from classify_training.fitting.phases import Phase, head_phase
from classify_training.model.classifier import Classifier
from classify_training.progress import duration_text

_USUAL_EPOCHS: Final = (6, 20)
"""After so many epochs most phases end by themselves."""

_FEWEST_EPOCHS: Final = 3
"""In fewer epochs many layers learn hardly more than the head alone (docs/benchmarks.md)."""

_FEWEST_HEAD_EPOCHS: Final = 5
"""In fewer epochs not even the head learns to tell the classes apart."""

_START_SECONDS: Final = 3.0
"""In which TensorFlow prepares the model of a phase (2 to 4 s on two cores)."""

_MARGIN: Final = 1.2
"""The least time budget that is named has so much more than what is expected: no machine is always equally fast."""


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
        image = training_seconds(self.classifier, first, self.image_seconds, self._augmentations(unfreeze) > 0)
        return len(self.plan.epoch_examples) * image

    def caching(self, unfreeze: str) -> float:
        """Seconds before the first epoch, and in which the features of all cached augmentations are computed."""
        return _START_SECONDS + self._augmentations(unfreeze) * self._pass()

    def first_epochs(self, unfreeze: str) -> float:
        """Seconds of the fewest epochs in which a phase learns something, with the features that they need."""
        epochs = _FEWEST_HEAD_EPOCHS if unfreeze == "none" else _FEWEST_EPOCHS
        cached = self._pass() if self._augmentations(unfreeze) else 0.0
        return _START_SECONDS + cached + epochs * self.epoch(unfreeze)

    def one_epoch(self, unfreeze: str) -> float:
        """Seconds of a phase of a single epoch."""
        return _START_SECONDS + self.epoch(unfreeze)

    def _pass(self) -> float:
        return len(self.plan.epoch_examples) * self.image_seconds

    def _augmentations(self, unfreeze: str) -> int:
        first = self.classifier.network.first_trained_stage(unfreeze)
        return cached_augmentations(self.classifier, self.plan, self.config, first)


def affordable(phases: Sequence[Phase], config: FitConfig, costs: EpochCosts, time_left: float) -> tuple[Phase, ...]:
    """Leave out later phases for which a time budget has no room; train the head alone if there is none for others.

    Args:
        phases: what is planned.
        config: the options; only what they leave to the data is changed.
        costs: how long epochs take.
        time_left: seconds that the fit may take; infinity for no limit.
    """
    if config.unfreeze != AUTO or config.weights == "random":
        return tuple(phases)
    kept = list(phases)
    while len(kept) > 1 and sum(costs.first_epochs(phase.unfreeze) for phase in kept) > time_left:
        kept.pop()
    first = kept[0].unfreeze if kept else "none"
    if config.head_epochs and first != "none" and costs.first_epochs(first) > time_left:
        return (head_phase(config),)
    return tuple(kept)


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
    unfreeze = phases[0].unfreeze
    needed = costs.first_epochs(unfreeze) if unfreeze == "none" else costs.one_epoch(unfreeze)
    if time_left < needed:
        least = 10 * math.ceil(_MARGIN * (config.time_budget - time_left + needed) / 10)
        raise TimeBudgetError(
            f"--time-budget {config.time_budget:.0f}s is too short: for these images, training, evaluation and export"
            f" take at least {least} s on this machine: give more, or make --image-size smaller"
        )


def estimate(phases: Sequence[Phase], config: FitConfig, costs: EpochCosts, around: float) -> Iterator[str]:
    """Yield lines that say how long an epoch of each phase, and the whole training, will take.

    Args:
        phases: what will be trained.
        config: the options.
        costs: how long epochs take.
        around: seconds that everything before and after these phases takes.
    """
    parts, least, most = [], around, around
    for phase in phases:
        epoch, caching = costs.epoch(phase.unfreeze), costs.caching(phase.unfreeze)
        shown = duration_text(epoch) if epoch >= 1 else "less than 1 s"
        parts.append(f"{shown} for an epoch of the phase {phase.name}")
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
        span = " to ".join(dict.fromkeys((duration_text(least), duration_text(most))))
        yield f"estimated time: usually {span} in all; --time-budget limits it"
