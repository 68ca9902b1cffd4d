"""The phases of a training: first the head on a frozen network, then fine-tuning from a late stage on, then deeper."""

from dataclasses import dataclass
from typing import Final

from classify_training.config import AUTO, FitConfig
from classify_training.model.backbone import Backbone

RANDOM: Final = "random"
_EARLIER_SHARE: Final = 0.2
_NEEDED_GAIN: Final = 0.05


@dataclass(frozen=True)
class Phase:
    """One phase of a training.

    Attributes:
        name: what logs and figures call it.
        unfreeze: first stage of the backbone that is trained, `all` or `none`.
        epochs: largest number of epochs.
        learning_rate: peak learning rate.
        needed_gain: share of the validation loss by which the phase before must have lowered it, or else this phase is
            left out, as it is without validation images.
    """

    name: str
    unfreeze: str
    epochs: int
    learning_rate: float
    needed_gain: float = 0.0


@dataclass(frozen=True)
class Transferability:
    """How well the network's features before training suit the images.

    Attributes:
        best_stage: name of the stage whose features alone predict best; None if that is unknown.
        is_solved: whether a linear model on these features leaves nearly nothing to gain.
    """

    best_stage: str | None = None
    is_solved: bool = False


def plan_phases(config: FitConfig, network: Backbone, transfer: Transferability) -> tuple[Phase, ...]:
    """Plan the phases; random weights are not worth freezing, so all layers are then trained at once.

    With `--unfreeze auto`, all stages but the first ones, which are of use for any image, are fine-tuned at once
    (`Backbone.fine_tuned_from`), unless the features of the last stage alone predict best: then the network describes
    these images well already (Yosinski et al., "How transferable are features in deep neural networks?", 2014), and
    after the head only the last stage is fine-tuned, and the others only if that pays. If the frozen features leave
    nearly nothing to gain, only the head is trained. Each phase is kept only if it lowers the validation loss.

    Args:
        config: the options.
        network: the backbone.
        transfer: how well the network suits the images before it is trained.
    """
    head = head_phase(config)
    if config.weights == RANDOM:
        planned = [_fine_tuning("all", config)]
    elif config.unfreeze != AUTO:
        planned = [head, *([_fine_tuning(config.unfreeze, config)] if config.unfreeze != "none" else [])]
    elif transfer.is_solved and head.epochs:
        planned = [head]
    else:
        last = network.stages[-1].name
        if transfer.best_stage in (None, last):
            planned = [head, _fine_tuning(last, config), _fine_tuning(network.fine_tuned_from, config, _NEEDED_GAIN)]
        else:
            # A head for features that do not suit the images is no better start than a random one.
            planned = [_fine_tuning(network.fine_tuned_from, config) if config.epochs else head]
    return tuple(phase for phase in planned if phase.epochs)


def head_phase(config: FitConfig) -> Phase:
    """The phase in which only the head is trained."""
    return Phase("head", "none", config.head_epochs, config.head_learning_rate)


def _fine_tuning(unfreeze: str, config: FitConfig, needed_gain: float = 0.0) -> Phase:
    name = "all layers" if unfreeze == "all" else f"from {unfreeze}"
    return Phase(name, unfreeze, config.epochs, config.peak_learning_rate, needed_gain)


def phase_share(number: int, phases: int) -> float:
    """Largest share of the time that is left which the phase of a number, from 0, may take, 0-1."""
    return 1.0 if number == phases - 1 else _EARLIER_SHARE
