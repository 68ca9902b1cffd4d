"""classify-train: sample, inspect, export."""

import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classify_training import __version__
from classify_training.config import AugmentConfig, DataConfig, FitConfig, TrainConfig
from classify_training.errors import TrainingError
from classify_training.options import FOLDER, FRACTION, data_config, data_options, model_folder, weights_source

if TYPE_CHECKING:
    from classify_training.plan import Plan

_TABLE_WIDTH = 100
_DEFAULT_FIT = FitConfig()
_DEFAULT_AUGMENT = AugmentConfig()


class _Group(click.Group):
    """Ends a user's mistake in one sentence and its exit code, and an interruption in 130."""

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except TrainingError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted: nothing was published.", err=True)
            sys.exit(130)


@click.group(cls=_Group, context_settings={"auto_envvar_prefix": "CLASSIFY_TRAIN", "show_default": True})
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
def sample(dataset: Path, images: Path) -> None:
    """Write a sample dataset: handwritten digits in DATASET, and some more, held out, to classify.

    The 1,797 scans come with scikit-learn, so nothing is downloaded. Three of the ten classes are too small on
    purpose.
    """
    from classify_training.sample import write_sample

    train, held_out = write_sample(dataset, images)
    click.echo(f"{train} labelled images in {dataset}, {held_out} held out in {images}")


@main.command()
@data_options
def inspect(quiet: bool, **options: Any) -> None:
    """Show what a training on DATASET would see: classes, splits, broken and repeated files.

    DATASET holds a folder of images for each label, or folders train, val and test of such folders.
    """
    _show(data_config(options), quiet)


@main.command()
@data_options
@click.option(
    "--output",
    "-o",
    type=FOLDER,
    default=Path("models/classifier"),
    callback=model_folder,
    help="The model's folder; its name is the model's.",
)
@click.option(
    "--weights",
    default=_DEFAULT_FIT.weights,
    callback=weights_source,
    metavar="imagenet|random|PATH",
    help="What the convolutions start from.",
)
@click.option("--batch-size", type=click.IntRange(1), default=_DEFAULT_FIT.batch_size, help="Images a step.")
@click.option(
    "--head-epochs",
    type=click.IntRange(0),
    default=_DEFAULT_FIT.head_epochs,
    help="At most so many for the head alone; none with random weights.",
)
@click.option("--epochs", type=click.IntRange(0), default=_DEFAULT_FIT.epochs, help="At most so many of fine-tuning.")
@click.option(
    "--head-rate",
    type=click.FloatRange(0, min_open=True),
    default=_DEFAULT_FIT.head_rate,
    help="Learning rate for the head.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=_DEFAULT_FIT.rate,
    help="Peak learning rate of fine-tuning.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    default=_DEFAULT_FIT.patience,
    help="Epochs without a better validation loss that end a phase.",
)
@click.option("--flip/--no-flip", default=_DEFAULT_AUGMENT.flip, help="Mirror images left to right.")
@click.option(
    "--shift", type=FRACTION, default=_DEFAULT_AUGMENT.shift, help="Largest shift, as a fraction of the side."
)
@click.option(
    "--rotate", type=click.FloatRange(0, 180), default=_DEFAULT_AUGMENT.rotate, help="Largest rotation in degrees."
)
@click.option(
    "--erase", type=click.FloatRange(0, 1), default=_DEFAULT_AUGMENT.erase, help="Probability of random erasing."
)
def export(output: Path, quiet: bool, **options: Any) -> None:
    """Train on DATASET and export the model as the next version of OUTPUT.

    TensorFlow Serving and classify-serve pick the new version up from there.
    """
    data = data_config(options)
    augment = AugmentConfig(**{name: options.pop(name) for name in AugmentConfig.__dataclass_fields__})
    config = TrainConfig(data=data, augment=augment, fit=FitConfig(**options), output=output, quiet=quiet)
    plan = _show(data, quiet)
    from classify_serving.quiet import import_tensorflow

    import_tensorflow()
    from classify_training.train import train

    trained = train(plan, config)
    marks = "  ".join(f"{name} {value:.1%}" for name, value in trained.metadata.test_metrics.items())
    click.echo(f"On {trained.evaluation.images} test images: {marks}" if marks else "No test images to mark it on.")
    click.echo(f"Exported {trained.metadata.model_name} version {trained.metadata.model_version} to {trained.path}")


def _show(data: DataConfig, quiet: bool) -> "Plan":
    """Print the table that decides everything, and what was left out, before anything is trained."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger(__package__).setLevel(logging.WARNING if quiet else logging.INFO)
    from rich.console import Console

    from classify_training.plan import make_plan, plan_table

    plan = make_plan(data, quiet)
    # On a narrower terminal long lines wrap, which is better than columns that vanish.
    Console(width=max(Console().width, _TABLE_WIDTH)).print(plan_table(plan))
    if not plan.merges and max(plan.folder_counts("train").values()) < data.min_images:
        click.echo(f"nothing merged: every class has fewer than {data.min_images} training images", err=True)
    for _, error in plan.dataset.corrupt:
        click.echo(f"left out, cannot be read: {error}", err=True)
    for group in plan.dataset.conflicts:
        click.echo(
            f"left out, one picture under several labels: {', '.join(str(file.path) for file in group)}", err=True
        )
    return plan
