"""`config.json`: options by name, written by every run and read from a run or from a dataset."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import msgspec

from classify_serving.contract.text import error_reason
from classify_training.config import AugmentConfig, DataConfig, FitConfig, TrainConfig
from classify_training.errors import RunError

DATASET_OPTIONS: Final = "config.json"
"""File in a dataset's folder with the options to train on this dataset with."""

OLD_NAMES: Final[Mapping[str, str]] = {
    "size": "image_size",
    "rate": "learning_rate",
    "head_rate": "head_learning_rate",
    "variants": "cached_augmentations",
    "feature_space": "feature_cache_gb",
}
"""Names of options in release 0.1 -> current names."""


def settings_json(config: TrainConfig) -> bytes:
    """Write a configuration as JSON, option name -> value.

    Paths are absolute, so that the result does not depend on the current folder.
    """
    parts = (config.data, config.augment, config.fit)
    settings = {field.name: getattr(part, field.name) for part in parts for field in fields(part)}
    settings["dataset"] = str(config.data.dataset.resolve())
    settings["cache"] = str(config.data.cache.resolve())
    settings["output"] = str(config.output.resolve())
    settings["merge"] = [f"{folder}={target}" for folder, target in config.data.merge.items()]
    if config.fit.weights not in ("imagenet", "random"):
        settings["weights"] = str(Path(config.fit.weights).resolve())
    return msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n"


def parse_settings(content: bytes) -> dict[str, Any]:
    """Read JSON as `settings_json` writes it; options of release 0.1 get their current names.

    Raises:
        msgspec.DecodeError: it is not a JSON object.
    """
    settings = msgspec.json.decode(content, type=dict[str, Any])
    renamed = {OLD_NAMES[name]: settings.pop(name) for name in OLD_NAMES if name in settings}
    return renamed | settings


def read_settings(path: Path, known: Mapping[str, object]) -> dict[str, Any]:
    """Read the options in a `config.json`.

    Args:
        path: the file.
        known: has the name of every existing option as a key.

    Raises:
        RunError: the file cannot be read, is not a JSON object, or names an option that does not exist.
    """
    try:
        settings = parse_settings(path.read_bytes())
    except OSError as error:
        raise RunError(f"cannot read {path} ({error_reason(error)}): give the config.json of a run") from error
    except msgspec.DecodeError as error:
        raise RunError(f"{path} does not contain options as JSON ({error}): correct or remove it") from error
    for name in settings:
        if name not in known:
            raise RunError(f"{path} sets {name}, which is not an option: correct or remove it")
    return settings


def dataset_settings(dataset: Path) -> dict[str, Any]:
    """Read the options in a dataset's own `config.json`; empty if there is no such file.

    Raises:
        RunError: as `read_settings`.
    """
    path = dataset / DATASET_OPTIONS
    if not path.is_file():
        return {}
    names = {field.name: None for part in (DataConfig, AugmentConfig, FitConfig) for field in fields(part)}
    del names["dataset"]
    return read_settings(path, names)
