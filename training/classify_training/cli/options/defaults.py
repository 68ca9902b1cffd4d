"""Defaults of options that come from a recipe, from the configuration of a run, or from the dataset."""

from pathlib import Path

import click

from classify_training.config import RECIPES
from classify_training.errors import RunError
from classify_training.settings import DATASET_OPTIONS, dataset_settings, read_settings


def use_recipe(ctx: click.Context, option: click.Parameter, name: str) -> None:
    """Use a recipe's values as defaults of the other options."""
    ctx.default_map = {**(ctx.default_map or {}), **RECIPES[name]}


def use_config(ctx: click.Context, option: click.Parameter, path: Path | None) -> None:
    """Use the values in a run's `config.json` as defaults of the other options."""
    if path is None:
        return
    try:
        settings = read_settings(path, {parameter.name: None for parameter in ctx.command.params if parameter.name})
    except RunError as error:
        raise click.BadParameter(str(error)) from error
    ctx.default_map = {**(ctx.default_map or {}), **settings}


def use_dataset(ctx: click.Context, argument: click.Parameter, dataset: Path) -> Path:
    """Use the options in a dataset's `config.json` as defaults; those of `--recipe` and `--config` come before them."""
    try:
        settings = dataset_settings(dataset)
    except RunError as error:
        raise click.BadParameter(str(error)) from error
    if settings:
        shown = ", ".join(f"{name} {value}" for name, value in settings.items())
        click.echo(f"Default options from {dataset / DATASET_OPTIONS}: {shown}", err=True)
    ctx.default_map = {**settings, **(ctx.default_map or {})}
    return dataset
