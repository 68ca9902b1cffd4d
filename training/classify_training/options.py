"""The command-line options that say how a dataset is read, split and balanced."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from classify_serving.images import RESIZE_MODES
from classify_training.config import DataConfig, check_weights
from classify_training.errors import WeightsError

F = TypeVar("F", bound=Callable[..., Any])

FOLDER: Final = click.Path(path_type=Path)
FRACTION: Final = click.FloatRange(0, 1, max_open=True)
_DEFAULT: Final = DataConfig(dataset=Path())


def _merge(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for folder, equals, target in pairs:
        if not (folder and equals and target):
            raise click.BadParameter(f"{folder}{equals}{target} is not of the form FOLDER=CLASS")
    return {folder: target for folder, _, target in pairs}


def model_folder(ctx: click.Context, option: click.Parameter, folder: Path) -> Path:
    """Refuse, before any training, a folder that could not be written to after it."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise click.BadParameter(f"{nearest} is not a folder that can be written to: choose another")
    return folder


def weights_source(ctx: click.Context, option: click.Parameter, weights: str) -> str:
    """Refuse a file that does not exist."""
    try:
        check_weights(weights)
    except WeightsError as error:
        raise click.BadParameter(str(error)) from error
    return weights


def data_options(command: F) -> F:
    """Give a command the argument DATASET and the options of `DataConfig`."""
    options = [
        click.argument("dataset", type=FOLDER),
        click.option(
            "--size", type=click.IntRange(32, 1024), default=_DEFAULT.size, help="Side of the images in pixels."
        ),
        click.option(
            "--resize", type=click.Choice(RESIZE_MODES), default=_DEFAULT.resize, help="How an image is made square."
        ),
        click.option(
            "--val",
            type=FRACTION,
            default=_DEFAULT.val,
            help="Fraction kept for validation, unless DATASET has a val folder.",
        ),
        click.option(
            "--test",
            type=FRACTION,
            default=_DEFAULT.test,
            help="Fraction kept for testing, unless DATASET has a test folder.",
        ),
        click.option(
            "--min-images",
            type=click.IntRange(0),
            default=_DEFAULT.min_images,
            help="Merge classes with fewer training images.",
        ),
        click.option(
            "--others", default=_DEFAULT.others, metavar="CLASS", help="The class that small ones are merged into."
        ),
        click.option(
            "--merge",
            multiple=True,
            callback=_merge,
            metavar="FOLDER=CLASS",
            help="Merge a folder into a class by hand; repeatable.",
        ),
        click.option(
            "--max-ratio",
            type=click.FloatRange(1),
            default=_DEFAULT.max_ratio,
            help="Thin classes to this many times the median.",
        ),
        click.option(
            "--balance",
            type=click.Choice(["oversample", "none"]),
            default=_DEFAULT.balance,
            help="Repeat images of small classes up to the largest, or not.",
        ),
        click.option(
            "--seed", type=click.IntRange(0), default=_DEFAULT.seed, help="Equal seeds choose equal splits and draws."
        ),
        click.option("--quiet", is_flag=True, help="No progress on stderr."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def data_config(options: dict[str, Any]) -> DataConfig:
    """Take the values of `data_options` out of a command's parameters."""
    if options["val"] + options["test"] >= 1:
        raise click.UsageError("--val and --test together leave nothing to train on: lower them")
    return DataConfig(**{name: options.pop(name) for name in DataConfig.__dataclass_fields__})
