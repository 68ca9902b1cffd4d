"""How long a training will take, said before the work starts."""

from collections.abc import Iterator, Sequence
from typing import Final

from classify_training.config import TrainConfig
from classify_training.data.plan import Plan
from classify_training.fitting.cost import training_seconds
from classify_training.fitting.input_pipeline import caches_features
from classify_training.fitting.phases import Phase
from classify_training.model.classifier import Classifier
from classify_training.progress import duration_text

_USUAL_EPOCHS: Final = (6, 20)
"""After so many epochs most phases end by themselves."""


def estimate(
    classifier: Classifier, plan: Plan, config: TrainConfig, phases: Sequence[Phase], image_seconds: float
) -> Iterator[str]:
    """Yield lines that say how long an epoch of each phase, and all of them, will take.

    Args:
        classifier: the model.
        plan: what is trained on.
        config: the configuration.
        phases: what will be trained.
        image_seconds: in which the network computes the features of an image.
    """
    parts, least, most = [], 0.0, 0.0
    for phase in phases:
        first = classifier.network.first_trained_stage(phase.unfreeze)
        is_cached = caches_features(classifier, config, first)
        images = len(plan.epoch_examples)
        epoch = images * training_seconds(classifier, first, image_seconds, is_cached)
        cached = config.fit.cached_augmentations * images * image_seconds if is_cached else 0.0
        parts.append(f"{duration_text(epoch)} for an epoch of the phase {phase.name}")
        fewest, usual = (min(phase.epochs, count) for count in _USUAL_EPOCHS)
        least += 0.0 if phase.needed_gain else cached + fewest * epoch
        most += cached + usual * epoch
    if not parts:
        return
    yield f"estimated time: {', '.join(parts)}"
    budget = config.fit.time_budget
    if budget and budget < most:
        yield f"estimated time: at most {duration_text(budget)} in all, which is the --time-budget"
    else:
        yield (
            f"estimated time: {duration_text(least)} to {duration_text(most)} in all;"
            " --time-budget 10m would end it after ten minutes with the best until then"
        )
