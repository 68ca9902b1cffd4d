"""What a training that is killed goes on from: written after every epoch, whole or not at all."""

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

_STATE: Final = "state.json"


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of training.

    Attributes:
        phase: `head` or `fine-tuning`.
        epoch: its number in the phase, from 1.
        loss: mean training loss, with augmentation and dropout.
        accuracy: of training, likewise, in 0-1.
        val_loss: negative log-likelihood of the validation split, each class counting alike if training balances
            them; None without such a split.
        val_calibrated: the same after temperature scaling.
        val_accuracy: share of the validation images that are right.
        seconds: it took, validation included.
    """

    phase: str
    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None = None
    val_calibrated: float | None = None
    val_accuracy: float | None = None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class State:
    """How far a training has come.

    Attributes:
        phase: number of the phase it is in, from 0.
        epoch: epochs of that phase that are done.
        best_loss: lowest `val_calibrated` of the phase; None before there is one.
        best_epoch: after how many epochs that was; 0 is what the phase started from.
        history: all epochs of all phases.
    """

    phase: int = 0
    epoch: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    history: tuple[Epoch, ...] = ()


class Checkpoint:
    """The newest and the best weights of a training, in a folder of their own.

    `state.json` is replaced last and names, by phase and epoch, the files that belong to it; older ones are removed
    after that.

    Args:
        folder: made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def state(self) -> State:
        """What was saved last, or the beginning."""
        try:
            return msgspec.json.decode((self._folder / _STATE).read_bytes(), type=State, strict=False)
        except FileNotFoundError:
            return State()
        except (OSError, msgspec.DecodeError) as error:
            raise self._unreadable(error) from error

    def save(self, state: State, model: keras.Model) -> None:
        """Save a compiled model's trainable weights and optimiser; as the best too if this epoch is it.

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
        """Put the weights and the optimiser of a saved state into a model compiled like the saved one.

        Raises:
            RunError: they cannot be read, or are not of such a model.
        """
        with self._loaded(self._last(state)) as arrays:
            _assign(arrays, model)
            model.optimizer.build(model.trainable_variables)
            start = len("optimizer_")
            model.optimizer.load_own_variables({k[start:]: v for k, v in arrays.items() if k.startswith("optimizer_")})

    def restore_best(self, state: State, model: keras.Model) -> None:
        """Put the best weights of the state's phase into a model; raises as `restore_last`."""
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
            f"cannot read the checkpoint {self._folder} ({error_reason(error)}): start afresh with --no-resume"
        )

    def _last(self, state: State) -> Path:
        return self._folder / f"last-{state.phase}-{state.epoch}.npz"

    def _best(self, state: State) -> Path:
        return self._folder / f"best-{state.phase}-{state.best_epoch}.npz"

    def _remove_others(self, state: State) -> None:
        for path in self._folder.glob("*.npz"):
            if path not in (self._last(state), self._best(state)):
                path.unlink()


def _arrays(name: str, variables: Iterable[Any]) -> dict[str, NDArray[Any]]:
    return {f"{name}_{position}": np.asarray(variable) for position, variable in enumerate(variables)}


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def _assign(arrays: dict[str, NDArray[Any]], model: keras.Model) -> None:
    for position, variable in enumerate(model.trainable_variables):
        variable.assign(arrays[f"weight_{position}"])
