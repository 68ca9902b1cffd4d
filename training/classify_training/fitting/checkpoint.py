"""Checkpoints, from which a killed training resumes; one is written after every epoch, whole or not at all."""

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray

from classify_serving.contract.text import error_reason
from classify_serving.files import replace_file
from classify_training.errors import RunError
from classify_training.fitting.phases import Phase

_STATE: Final = "state.json"
_OLD_NAME: Final = "val_calibrated"
"""What release 0.1 calls `Epoch.val_loss_calibrated`."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of training.

    Attributes:
        phase: name of its phase.
        epoch: number in the phase, from 1.
        loss: mean training loss, with augmentation and dropout.
        accuracy: training accuracy in 0-1, with augmentation and dropout.
        val_loss: negative log-likelihood of the validation split, with equal weight for each class if training is
            balanced; None without validation images.
        val_loss_calibrated: the same after temperature scaling; it selects the epoch that is kept.
        val_accuracy: fraction of the validation images that are classified correctly.
        seconds: duration, including validation.
    """

    phase: str
    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None = None
    val_loss_calibrated: float | None = None
    val_accuracy: float | None = None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Decay:
    """The last part of a phase, in which the learning rate falls to 0.

    Attributes:
        start: number of finished epochs of the phase when it began.
        epochs: how many epochs it takes.
        share: share of the phase's peak learning rate with which it begins.
        reason: why it began.
    """

    start: int
    epochs: int
    share: float = 1.0
    reason: str


@dataclass(frozen=True, kw_only=True)
class State:
    """Progress of a training.

    Attributes:
        phase: number of the current phase, from 0.
        epoch: number of finished epochs of that phase.
        best_loss: lowest `val_loss_calibrated` of the phase; None if there is none yet.
        best_epoch: number of the epoch with that loss; 0 stands for the weights at the start of the phase.
        start_loss: `val_loss_calibrated` of those weights; None if it is unknown.
        decay: the end of the phase, once it has begun.
        planned: the phases.
        ended: why each finished phase ended.
        history: all epochs of all phases.
    """

    phase: int = 0
    epoch: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    start_loss: float | None = None
    decay: Decay | None = None
    planned: tuple[Phase, ...] = ()
    ended: tuple[str, ...] = ()
    history: tuple[Epoch, ...] = ()

    @property
    def phase_history(self) -> tuple[Epoch, ...]:
        """The epochs of the current phase."""
        return self.history[len(self.history) - self.epoch :]

    @property
    def kept(self) -> Epoch | None:
        """The epoch whose weights are the best ones so far; None if no epoch was better than the start."""
        if self.best_epoch:
            return self.history[self.best_epoch - self.epoch - 1]
        earlier = self.history[: len(self.history) - self.epoch]
        return min(reversed(earlier), key=lambda epoch: epoch.val_loss_calibrated or 0.0, default=None)

    @property
    def gain(self) -> float:
        """The share by which this phase has lowered the validation loss so far, 0-1; 0 if that is unknown."""
        if self.best_loss is None or not self.start_loss:
            return 0.0
        return max(0.0, 1 - self.best_loss / self.start_loss)


class Checkpoint:
    """The latest and the best weights of a training, in a folder.

    `state.json` is replaced last; its phase and epochs determine the names of the files that belong to it, and older
    files are removed after that.

    Args:
        folder: folder of the checkpoint, created if needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def state(self) -> State:
        """Read the state that was saved last; the initial state if there is none.

        Raises:
            RunError: it cannot be read.
        """
        try:
            return _read_state((self._folder / _STATE).read_bytes())
        except FileNotFoundError:
            return State()
        except (OSError, msgspec.DecodeError) as error:
            raise self._unreadable(error) from error

    def save(self, state: State, model: keras.Model) -> None:
        """Save the trainable weights and the optimiser of a compiled model, also as the best ones if they are.

        Raises:
            RunError: the folder cannot be written.
        """
        try:
            weights = _arrays("weight", model.trainable_variables)
            if state.best_epoch == state.epoch:
                _save(self._best(state), weights)
            if state.epoch:
                optimizer: dict[str, Any] = {}
                model.optimizer.save_own_variables(optimizer)
                _save(self._last(state), weights | {f"optimizer_{key}": v for key, v in optimizer.items()})
            replace_file(self._folder / _STATE, msgspec.json.encode(state))
            self._remove_others(state)
        except OSError as error:
            raise RunError(
                f"cannot write the checkpoint {self._folder} ({error_reason(error)}): free disk space,"
                " check permissions, or choose other --runs"
            ) from error

    def restore_last(self, state: State, model: keras.Model) -> None:
        """Load the weights and the optimiser of a saved state into a model compiled like the saved one.

        Raises:
            RunError: they cannot be read, or belong to another model.
        """
        with self._loaded(self._last(state)) as arrays:
            _assign(arrays, model)
            model.optimizer.build(model.trainable_variables)
            start = len("optimizer_")
            model.optimizer.load_own_variables({k[start:]: v for k, v in arrays.items() if k.startswith("optimizer_")})

    def restore_best(self, state: State, model: keras.Model) -> None:
        """Load the best weights of the state's phase into a model; raises as `restore_last`."""
        with self._loaded(self._best(state)) as arrays:
            _assign(arrays, model)

    @contextmanager
    def _loaded(self, path: Path) -> Iterator[dict[str, NDArray[Any]]]:
        try:
            with np.load(path) as arrays:
                yield dict(arrays)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            # ValueError and KeyError: arrays of another model, saved by another version of this program.
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> RunError:
        return RunError(
            f"cannot read the checkpoint {self._folder} ({error_reason(error)}): start a new run with --no-resume"
        )

    def _last(self, state: State) -> Path:
        return self._folder / f"last-{state.phase}-{state.epoch}.npz"

    def _best(self, state: State) -> Path:
        return self._folder / f"best-{state.phase}-{state.best_epoch}.npz"

    def _remove_others(self, state: State) -> None:
        for path in self._folder.glob("*.npz"):
            if path not in (self._last(state), self._best(state)):
                path.unlink()


def _read_state(content: bytes) -> State:
    """Parse `state.json`, also of release 0.1.

    Raises:
        msgspec.DecodeError: it is something else.
    """
    state = msgspec.json.decode(content, type=dict[str, Any])
    for epoch in state.get("history", ()):
        if isinstance(epoch, dict) and _OLD_NAME in epoch:
            epoch["val_loss_calibrated"] = epoch.pop(_OLD_NAME)
    return msgspec.convert(state, State, strict=False)


def _arrays(name: str, variables: Iterable[Any]) -> dict[str, NDArray[Any]]:
    return {f"{name}_{position}": np.asarray(variable) for position, variable in enumerate(variables)}


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def _assign(arrays: dict[str, NDArray[Any]], model: keras.Model) -> None:
    for position, variable in enumerate(model.trainable_variables):
        variable.assign(arrays[f"weight_{position}"])
