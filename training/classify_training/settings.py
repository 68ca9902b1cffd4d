"""A configuration as the options that give it: what `config.json` holds, a run's or a dataset's own."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import msgspec

from classify_serving.contract.text import error_reason
from classify_training.config import AugmentConfig, DataConfig, FitConfig, TrainConfig
from classify_training.errors import RunError

DATASET_OPTIONS: Final = "config.json"
"""File in a dataset's folder with options for whoever trains on it."""


def settings_json(config: TrainConfig) -> bytes:
    """Option name -> value as JSON, with absolute paths; the same training from whatever folder it is started."""
    parts = (config.data, config.augment, config.fit)
    settings = {field.name: getattr(part, field.name) for part in parts for field in fields(part)}
    settings["dataset"] = str(config.data.dataset.resolve())
    settings["cache"] = str(config.data.cache.resolve())
    settings["output"] = str(config.output.resolve())
    settings["merge"] = [f"{folder}={target}" for folder, target in config.data.merge.items()]
    if config.fit.weights not in ("imagenet", "random"):
        settings["weights"] = str(Path(config.fit.weights).resolve())
    return msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n"


def read_settings(path: Path, known: Mapping[str, object]) -> dict[str, Any]:
    """The options in a `config.json`.

    Args:
        path: of the file.
        known: names of the options there are.

    Raises:
        RunError: the file cannot be read, is no JSON object, or names an option that does not exist.
    """
    try:
        settings = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise RunError(f"cannot read {path} ({error_reason(error)}): give the config.json of a run") from error
    except msgspec.DecodeError as error:
        raise RunError(f"{path} does not hold options as JSON ({error}): correct or remove it") from error
    for name in settings:
        if name not in known:
            raise RunError(f"{path} sets {name}, which is no option: correct or remove it")
    return settings


def dataset_settings(dataset: Path) -> dict[str, Any]:
    """The options that a dataset brings along, in its `config.json`; none without that file.

    Raises:
        RunError: as `read_settings`.
    """
    path = dataset / DATASET_OPTIONS
    if not path.is_file():
        return {}
    names = {field.name: None for part in (DataConfig, AugmentConfig, FitConfig) for field in fields(part)}
    del names["dataset"]
    return read_settings(path, names)
