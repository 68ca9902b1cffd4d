"""The command-line options of the parts of a training's configuration."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from classify_serving.contract.images import RESIZE_MODES
from classify_training.cli.defaults import use_dataset
from classify_training.cli.option_types import (
    FOLDER,
    FRACTION,
    POSITIVE,
    Real,
    known_weights,
    merge_pairs,
    ordered_range,
    writable_folder,
)
from classify_training.config import (
    BALANCES,
    FILLS,
    OUTPUT_INITS,
    PRECISIONS,
    SCHEDULES,
    AugmentConfig,
    DataConfig,
    FitConfig,
)
from classify_training.model.vgg16 import VGG16

F = TypeVar("F", bound=Callable[..., Any])

_DATA: Final = DataConfig(dataset=Path())
_AUGMENT: Final = AugmentConfig()
_FIT: Final = FitConfig()

_DATA_OPTIONS: Final = [
    click.argument("dataset", type=FOLDER, is_eager=True, callback=use_dataset),
    click.option(
        "--size",
        type=click.IntRange(VGG16.minimum_size, 1024),
        default=_DATA.size,
        help="Side of the images in pixels.",
    ),
    click.option("--resize", type=click.Choice(RESIZE_MODES), default=_DATA.resize, help="How images become square."),
    click.option("--val", type=FRACTION, default=_DATA.val, help="Share for validation if DATASET has no val folder."),
    click.option("--test", type=FRACTION, default=_DATA.test, help="Share for testing if DATASET has no test folder."),
    click.option(
        "--min-images",
        type=click.IntRange(0),
        default=_DATA.min_images,
        help="Merge classes with fewer training images.",
    ),
    click.option("--others", default=_DATA.others, metavar="CLASS", help="The class that small ones are merged into."),
    click.option(
        "--merge",
        multiple=True,
        callback=merge_pairs,
        metavar="FOLDER=CLASS",
        help="Merge a folder into a class by hand; repeatable.",
    ),
    click.option(
        "--max-ratio",
        type=Real(1),
        default=_DATA.max_ratio,
        help="Thin classes to this many times the median.",
    ),
    click.option(
        "--balance",
        type=click.Choice(BALANCES),
        default=_DATA.balance,
        help="Repeat images of small classes up to the largest, or let them weigh more in the loss.",
    ),
    click.option("--strict", is_flag=True, help="Refuse a dataset with corrupt files instead of leaving them out."),
    click.option("--seed", type=click.IntRange(0), default=_DATA.seed, help="Of splits, weights and random changes."),
    click.option(
        "--cache",
        type=FOLDER,
        default=_DATA.cache,
        callback=writable_folder,
        help="Folder for decoded images; may be deleted.",
    ),
    click.option("--quiet", is_flag=True, help="No progress on stderr."),
]

_AUGMENT_OPTIONS: Final = [
    click.option("--flip/--no-flip", default=_AUGMENT.flip, help="Mirror images left to right."),
    click.option("--shift", type=FRACTION, default=_AUGMENT.shift, help="Largest shift, as a share of the side."),
    click.option("--rotate", type=Real(0, 180), default=_AUGMENT.rotate, help="Largest rotation in degrees."),
    click.option("--erase", type=Real(0, 1), default=_AUGMENT.erase, help="Probability of erasing a rectangle."),
    click.option(
        "--erase-area",
        type=(Real(0, 1), Real(0, 1)),
        default=_AUGMENT.erase_area,
        callback=ordered_range,
        help="Range of its area, as shares of the image.",
    ),
    click.option(
        "--erase-aspect",
        type=(POSITIVE, POSITIVE),
        default=_AUGMENT.erase_aspect,
        show_default="0.3 3.33",
        callback=ordered_range,
        help="Range of its height / width.",
    ),
    click.option(
        "--erase-values",
        type=(Real(0, 255), Real(0, 255)),
        default=_AUGMENT.erase_values,
        callback=ordered_range,
        help="Range of what is painted, in 0-255 as the images.",
    ),
    click.option(
        "--erase-fill",
        type=click.Choice(FILLS),
        default=_AUGMENT.erase_fill,
        help="Noise in each pixel, or one colour a rectangle.",
    ),
]

_FIT_OPTIONS: Final = [
    click.option(
        "--weights",
        default=_FIT.weights,
        callback=known_weights,
        metavar="imagenet|random|PATH",
        help="What the convolutions start from.",
    ),
    click.option(
        "--unfreeze",
        type=click.Choice(VGG16.unfreeze_choices),
        default=_FIT.unfreeze,
        help="First block that is fine-tuned; random weights are trained whole.",
    ),
    click.option("--batch-size", type=click.IntRange(1), default=_FIT.batch_size, help="Images a step."),
    click.option(
        "--head-epochs",
        type=click.IntRange(0),
        default=_FIT.head_epochs,
        help="At most so many for the head alone; none with random weights.",
    ),
    click.option("--epochs", type=click.IntRange(0), default=_FIT.epochs, help="At most so many of fine-tuning."),
    click.option("--head-rate", type=POSITIVE, default=_FIT.head_rate, help="Peak learning rate for the head alone."),
    click.option(
        "--rate",
        type=Real(0),
        default=_FIT.rate,
        help="Peak learning rate of fine-tuning; 0 for 1e-5, or 1e-4 from random weights.",
    ),
    click.option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        default=_FIT.schedule,
        help="Whether rates warm up and fall to 0, or stay.",
    ),
    click.option(
        "--output-init",
        type=click.Choice(OUTPUT_INITS),
        default=_FIT.output_init,
        help="Initial weights of the output layer.",
    ),
    click.option(
        "--label-smoothing", type=FRACTION, default=_FIT.label_smoothing, help="Share of the truth for all classes."
    ),
    click.option(
        "--patience",
        type=click.IntRange(1),
        default=_FIT.patience,
        help="Epochs without a better calibrated validation loss that end a phase.",
    ),
    click.option(
        "--variants",
        type=click.IntRange(0),
        default=_FIT.variants,
        help="Augmentations of each image that frozen layers are run on, once each; 0 for new ones in every epoch.",
    ),
    click.option(
        "--feature-space", type=POSITIVE, default=_FIT.feature_space, help="GiB of disk for their results, at most."
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default=_FIT.precision,
        help="Number format of training; auto takes the fastest the hardware has. The exported model is float32.",
    ),
]


def data_options(command: F) -> F:
    """Give a command the argument DATASET and the options of `DataConfig`."""
    return _with(command, _DATA_OPTIONS)


def augment_options(command: F) -> F:
    """Give a command the options of `AugmentConfig`."""
    return _with(command, _AUGMENT_OPTIONS)


def fit_options(command: F) -> F:
    """Give a command the options of `FitConfig`."""
    return _with(command, _FIT_OPTIONS)


def _with(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def data_config(options: dict[str, Any]) -> DataConfig:
    """Take the values of `data_options` out of a command's parameters."""
    if options["val"] + options["test"] >= 1:
        raise click.UsageError("--val and --test together leave nothing to train on: lower them")
    return DataConfig(**{name: options.pop(name) for name in DataConfig.__dataclass_fields__})


def augment_config(options: dict[str, Any]) -> AugmentConfig:
    """Likewise those of `augment_options`."""
    return AugmentConfig(**{name: options.pop(name) for name in AugmentConfig.__dataclass_fields__})


def fit_config(options: dict[str, Any]) -> FitConfig:
    """Likewise those of `fit_options`."""
    return FitConfig(**{name: options.pop(name) for name in FitConfig.__dataclass_fields__})
