"""What the state of a training says about it."""

import pytest

from classify_training.fitting.checkpoint import Epoch, State


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
