"""Where the defaults of options come from besides the program: a recipe, a run's configuration, the dataset itself."""

from pathlib import Path

import click

from classify_training.config import RECIPES
from classify_training.errors import RunError
from classify_training.settings import DATASET_OPTIONS, dataset_settings, read_settings


def use_recipe(ctx: click.Context, option: click.Parameter, name: str) -> None:
    """Let a recipe's values be the defaults of the other options."""
    ctx.default_map = {**(ctx.default_map or {}), **RECIPES[name]}


def use_config(ctx: click.Context, option: click.Parameter, path: Path | None) -> None:
    """Let the values in a run's `config.json` be the defaults of the other options."""
    if path is None:
        return
    try:
        settings = read_settings(path, {parameter.name: None for parameter in ctx.command.params if parameter.name})
    except RunError as error:
        raise click.BadParameter(str(error)) from error
    ctx.default_map = {**(ctx.default_map or {}), **settings}


def use_dataset(ctx: click.Context, argument: click.Parameter, dataset: Path) -> Path:
    """Let the options that a dataset brings along be defaults, below those of `--recipe` and `--config`."""
    try:
        settings = dataset_settings(dataset)
    except RunError as error:
        raise click.BadParameter(str(error)) from error
    if settings:
        told = ", ".join(f"{name} {value}" for name, value in settings.items())
        click.echo(f"options of {dataset / DATASET_OPTIONS}, unless you give others: {told}", err=True)
    ctx.default_map = {**settings, **(ctx.default_map or {})}
    return dataset
