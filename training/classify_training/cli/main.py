"""classify-train: sample, inspect, preview, export, apply, map."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classify_serving.contract.versions import newest_version
from classify_training import __version__, interrupts
from classify_training.cli.apply import apply
from classify_training.cli.defaults import use_config, use_recipe
from classify_training.cli.group import Group
from classify_training.cli.map import map_command
from classify_training.cli.option_types import FOLDER, new_file, writable_folder
from classify_training.cli.options import (
    augment_config,
    augment_options,
    data_config,
    data_options,
    fit_config,
    fit_options,
)
from classify_training.config import RECIPES, DataConfig, TrainConfig

if TYPE_CHECKING:
    from classify_training.data.plan import Plan
    from classify_training.train import Trained


@click.group(cls=Group, context_settings={"auto_envvar_prefix": "CLASSIFY_TRAIN", "show_default": True})
@click.version_option(__version__)
def main() -> None:
    """Fine-tune VGG16 on a folder of labelled images and export a SavedModel.

    \b
    Exit codes: 0 done, 1 training or export failed, 2 wrong usage or unusable dataset,
    130 interrupted.
    """


@main.command()
@click.argument("dataset", type=FOLDER, default=Path("dataset"))
@click.option("--images", type=FOLDER, default=Path("images"), help="Folder for the images held out.")
@click.option(
    "--needed-for",
    type=FOLDER,
    metavar="MODEL",
    help="Only if DATASET is empty and this model has no version yet; what is in --images stays.",
)
def sample(dataset: Path, images: Path, needed_for: Path | None) -> None:
    """Write a sample dataset: handwritten digits in DATASET, and some more, held out, to classify.

    The 1,797 scans come with scikit-learn, so nothing is downloaded. Three of the ten classes are too small on
    purpose.
    """
    from classify_training.data.sample import holds_something, write_sample

    if needed_for and (holds_something(dataset) or newest_version(needed_for)):
        click.echo(f"no sample needed: {dataset if holds_something(dataset) else needed_for} is there")
        return
    keep_images = needed_for is not None and holds_something(images)
    train, held_out = write_sample(dataset, None if keep_images else images)
    click.echo(f"{train} labelled images in {dataset}" + (f", {held_out} held out in {images}" if held_out else ""))


@main.command()
@data_options
def inspect(quiet: bool, **options: Any) -> None:
    """Show what a training on DATASET would see: classes, splits, broken and repeated files.

    DATASET holds a folder of images for each label, or folders train, val and test of such folders.
    """
    _show(data_config(options), quiet)


@main.command()
@data_options
@augment_options
@click.option("--output", "-o", type=FOLDER, default=Path("preview.png"), callback=new_file, help="The PNG to write.")
@click.option("--images", type=click.IntRange(1, 20), default=8, help="How many images it shows.")
@click.option("--repeats", type=click.IntRange(1, 10), default=4, help="How often each is augmented.")
def preview(output: Path, images: int, repeats: int, quiet: bool, **options: Any) -> None:
    """Draw images of DATASET, and below each what augmentation makes of it."""
    data, augment = data_config(options), augment_config(options)
    _log_to_stderr(quiet)
    from classify_training.data.plan import make_plan

    plan = make_plan(data, quiet)
    _import_tensorflow()
    from classify_training.evaluation.preview import write_preview

    write_preview(plan, augment, images, repeats, data.seed, output)
    click.echo(f"Drew {output}")


@main.command()
@data_options
@augment_options
@fit_options
@click.option(
    "--output",
    "-o",
    type=FOLDER,
    default=Path("models/classifier"),
    callback=writable_folder,
    help="The model's folder; its name is the model's.",
)
@click.option(
    "--runs",
    type=FOLDER,
    default=Path("runs"),
    callback=writable_folder,
    help="Folder for what a run leaves besides the model.",
)
@click.option(
    "--resume/--no-resume", default=True, help="Go on with a killed run of the same configuration and dataset."
)
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default="default",
    is_eager=True,
    expose_value=False,
    callback=use_recipe,
    help="Other defaults: article trains all layers at once, at Adam's usual rate.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=use_config,
    help="Take options, and DATASET, from the config.json of a run.",
)
@click.option("--if-none", is_flag=True, help="Only if OUTPUT has no version yet.")
@click.option("--dry-run", is_flag=True, help="Only show what would be trained on.")
def export(output: Path, runs: Path, resume: bool, if_none: bool, dry_run: bool, quiet: bool, **options: Any) -> None:
    """Train on DATASET and export the model as the next version of OUTPUT.

    TensorFlow Serving and classify-serve pick the new version up from there. RUNS gets a folder with curves,
    confusion matrix, metrics, the misses on the test split and the configuration.
    """
    if if_none and (version := newest_version(output)):
        click.echo(f"nothing to train: {output} has version {version}")
        return
    config = TrainConfig(
        data=data_config(options),
        augment=augment_config(options),
        fit=fit_config(options),
        output=output,
        runs=runs,
        resume=resume,
        quiet=quiet,
    )
    plan = _show(config.data, quiet)
    if dry_run:
        return
    _import_tensorflow()
    from classify_training.train import train

    _report(train(plan, config))


main.add_command(apply)
main.add_command(map_command)


def _report(trained: "Trained") -> None:
    report = trained.evaluation.report()
    if report["images"]:
        low, high = report["accuracy_interval"]
        click.echo(
            f"On {report['images']} test images: accuracy {report['accuracy']:.1%}"
            f" (95% interval {low:.0%} to {high:.0%})  macro_f1 {report['macro_f1']:.1%}"
        )
    else:
        click.echo("No test images to mark it on.")
    click.echo(f"Exported {trained.metadata.model_name} version {trained.metadata.model_version} to {trained.path}")
    click.echo(f"More about this training: {trained.run}")


def _import_tensorflow() -> None:
    from classify_serving.tensorflow_import import import_tensorflow

    import_tensorflow()
    interrupts.check()


def _log_to_stderr(quiet: bool) -> None:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("classify_training").setLevel(logging.WARNING if quiet else logging.INFO)


def _show(data: DataConfig, quiet: bool) -> "Plan":
    """Print the table that decides everything, and what was left out, before anything is trained."""
    _log_to_stderr(quiet)
    from classify_training.cli.plan_table import print_plan
    from classify_training.data.plan import make_plan

    plan = make_plan(data, quiet)
    print_plan(plan, data.min_images)
    return plan
