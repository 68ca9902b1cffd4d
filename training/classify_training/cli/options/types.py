"""Types of option values, and checks of single options."""

import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from classify_serving.contract.text import error_reason
from classify_training.config import check_weights
from classify_training.errors import WeightsError


class Real(click.FloatRange):
    """A finite number in a range; click's own type accepts `nan` in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert as click does, and refuse what is not finite."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Duration(click.ParamType[float]):
    """A duration such as `90s`, `10m` or `1h30m`, or a number of seconds; converted to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert text to seconds; numbers are seconds already."""
        text = str(value).strip().lower()
        parts = re.findall(r"(\d+(?:\.\d+)?)([smh]?)", text)
        if not text or "".join(number + unit for number, unit in parts) != text:
            self.fail(f"{value!r} is not a duration: give one such as 90s, 10m or 1h30m", param, ctx)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)


_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
FOLDER: Final = click.Path(path_type=Path)
FRACTION: Final = Real(0, 1, max_open=True)
POSITIVE: Final = Real(0, min_open=True)


def new_file(ctx: click.Context, option: click.Parameter, path: Path) -> Path:
    """Refuse a file that cannot be written."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"{path} cannot be written: choose another")
    return path


def writable_folder(ctx: click.Context, option: click.Parameter, folder: Path) -> Path:
    """Refuse a folder that cannot be made or written to, before the training and not after it."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise click.BadParameter(f"{nearest} is not a folder that can be written to: choose another")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        # Permissions do not tell all: some file systems take no new folders, or no such names.
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.BadParameter(f"{folder} cannot be made ({error_reason(error)}): choose another") from error
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()
    return folder


def merge_pairs(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read `FOLDER=CLASS` pairs."""
    pairs = [value.partition("=") for value in values]
    for folder, equals, target in pairs:
        if not (folder and equals and target):
            raise click.BadParameter(f"{folder}{equals}{target} is not of the form FOLDER=CLASS")
    return {folder: target for folder, _, target in pairs}


def known_weights(ctx: click.Context, option: click.Parameter, weights: str) -> str:
    """Refuse a path to weights that does not exist."""
    try:
        check_weights(weights)
    except WeightsError as error:
        raise click.BadParameter(str(error)) from error
    return weights


def ordered_range(ctx: click.Context, option: click.Parameter, bounds: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range whose first bound is the larger one."""
    if bounds[0] > bounds[1]:
        raise click.BadParameter(f"{bounds[0]:g} is more than {bounds[1]:g}: give the smaller one first")
    return bounds
