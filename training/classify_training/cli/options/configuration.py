"""The command-line options for the parts of a training's configuration."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from classify_serving.contract.images import RESIZE_MODES
from classify_training.cli.options.aliases import option
from classify_training.cli.options.defaults import use_dataset
from classify_training.cli.options.types import (
    FOLDER,
    FRACTION,
    POSITIVE,
    Duration,
    Real,
    known_weights,
    merge_pairs,
    ordered_range,
    writable_folder,
)
from classify_training.config import (
    AUTO,
    BALANCES,
    FILLS,
    HEAD_FEATURES,
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

_DATASET: Final = click.argument("dataset", type=FOLDER, is_eager=True, callback=use_dataset)
_IMAGE_SIZE: Final = option(
    "--image-size",
    old="--size",
    type=click.IntRange(VGG16.minimum_size, 1024),
    default=_DATA.image_size,
    help="Width and height in pixels to which images are resized.",
)
_RESIZE: Final = option(
    "--resize", type=click.Choice(RESIZE_MODES), default=_DATA.resize, help="How images are made square."
)
_SEED: Final = option(
    "--seed", type=click.IntRange(0), default=_DATA.seed, help="Seed of splits, weights and random augmentation."
)
_CACHE: Final = option(
    "--cache",
    type=FOLDER,
    default=_DATA.cache,
    callback=writable_folder,
    help="Folder for decoded images; it can be deleted at any time.",
)
_QUIET: Final = option("--quiet", is_flag=True, help="No progress on stderr.")
_FLIP: Final = option("--flip/--no-flip", default=_AUGMENT.flip, help="Mirror images left to right.")
_WEIGHTS: Final = option(
    "--weights",
    default=_FIT.weights,
    callback=known_weights,
    metavar="imagenet|random|PATH",
    help="Initial weights of VGG16; imagenet downloads them once.",
)
_PRECISION: Final = option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=_FIT.precision,
    help="Number format of training; auto chooses the fastest for this hardware. The exported model uses float32.",
)

_DATA_OPTIONS: Final = [
    _DATASET,
    _IMAGE_SIZE,
    _RESIZE,
    option("--val", type=FRACTION, default=_DATA.val, help="Fraction for validation if DATASET has no val folder."),
    option("--test", type=FRACTION, default=_DATA.test, help="Fraction for testing if DATASET has no test folder."),
    option(
        "--min-images",
        type=click.IntRange(0),
        default=_DATA.min_images,
        help="Merge classes with fewer training images into one class.",
    ),
    option("--others", default=_DATA.others, metavar="CLASS", help="Name of the class for merged small classes."),
    option(
        "--merge",
        multiple=True,
        callback=merge_pairs,
        metavar="FOLDER=CLASS",
        help="Merge a folder into a class; repeatable.",
    ),
    option(
        "--max-ratio",
        type=Real(1),
        default=_DATA.max_ratio,
        help="Reduce larger classes to this many times the median class size.",
    ),
    option(
        "--balance",
        type=click.Choice(BALANCES),
        default=_DATA.balance,
        help="oversample repeats images of small classes, weights gives them more weight in the loss.",
    ),
    option("--strict", is_flag=True, help="Refuse a dataset with corrupt files instead of leaving them out."),
    _SEED,
    _CACHE,
    _QUIET,
]

_AUGMENT_OPTIONS: Final = [
    _FLIP,
    option("--shift", type=FRACTION, default=_AUGMENT.shift, help="Largest shift, as a fraction of the side."),
    option("--rotate", type=Real(0, 180), default=_AUGMENT.rotate, help="Largest rotation in degrees."),
    option("--erase", type=Real(0, 1), default=_AUGMENT.erase, help="Probability of erasing a random rectangle."),
    option(
        "--erase-area",
        type=(Real(0, 1), Real(0, 1)),
        default=_AUGMENT.erase_area,
        callback=ordered_range,
        help="Range of the rectangle's area, as fractions of the image.",
    ),
    option(
        "--erase-aspect",
        type=(POSITIVE, POSITIVE),
        default=_AUGMENT.erase_aspect,
        show_default="0.3 3.33",
        callback=ordered_range,
        help="Range of the rectangle's height / width.",
    ),
    option(
        "--erase-values",
        type=(Real(0, 255), Real(0, 255)),
        default=_AUGMENT.erase_values,
        callback=ordered_range,
        help="Range of the pixel values painted into it, within 0-255.",
    ),
    option(
        "--erase-fill",
        type=click.Choice(FILLS),
        default=_AUGMENT.erase_fill,
        help="Paint noise, or one random colour.",
    ),
]

_FIT_OPTIONS: Final = [
    _WEIGHTS,
    option(
        "--unfreeze",
        type=click.Choice((AUTO, *VGG16.unfreeze_choices)),
        default=_FIT.unfreeze,
        help="First block that is fine-tuned; auto decides by the data. With random weights, all layers are trained.",
    ),
    option(
        "--head-features",
        type=click.Choice(HEAD_FEATURES),
        default=_FIT.head_features,
        help="What the head takes: the last feature map alone, or also the mean features of the two blocks before.",
    ),
    option(
        "--standardise/--no-standardise",
        default=_FIT.standardise,
        help="Scale the network to unit variance on training images first, so that learning rates suit any weights.",
    ),
    option(
        "--time-budget",
        type=Duration(),
        default="0",
        show_default="none",
        metavar="TIME",
        help="Time that the whole training may take, such as 90s, 10m or 2h; it stops in time with the best it has."
        " 0 for no limit.",
    ),
    option("--batch-size", type=click.IntRange(1), default=_FIT.batch_size, help="Images in one training step."),
    option(
        "--head-epochs",
        type=click.IntRange(0),
        default=_FIT.head_epochs,
        help="Largest number of epochs for the head alone; not used with random weights.",
    ),
    option(
        "--epochs",
        type=click.IntRange(0),
        default=_FIT.epochs,
        help="Largest number of epochs of each phase of fine-tuning.",
    ),
    option(
        "--head-learning-rate",
        old="--head-rate",
        type=POSITIVE,
        default=_FIT.head_learning_rate,
        help="Peak learning rate for the head alone.",
    ),
    option(
        "--learning-rate",
        old="--rate",
        type=Real(0),
        default=_FIT.learning_rate,
        help="Peak learning rate of fine-tuning; 0 means 3e-4, or 1e-4 with random weights.",
    ),
    option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        default=_FIT.schedule,
        help="plateau keeps the learning rate until the validation loss stops falling, and then decays it to 0; cosine"
        " decays it over the largest number of epochs; constant keeps it.",
    ),
    option(
        "--output-init",
        type=click.Choice(OUTPUT_INITS),
        default=_FIT.output_init,
        help="Initial weights of the output layer.",
    ),
    option(
        "--label-smoothing",
        type=FRACTION,
        default=_FIT.label_smoothing,
        help="Fraction of the target probability spread over all classes.",
    ),
    option(
        "--patience",
        type=click.IntRange(1),
        default=_FIT.patience,
        help="Epochs without a lower calibrated validation loss after which a phase has learnt what it can.",
    ),
    option(
        "--cached-augmentations",
        old="--variants",
        type=click.IntRange(0),
        default=_FIT.cached_augmentations,
        help="Augmentations of each image whose features of frozen layers are cached; 0 makes new ones in every epoch.",
    ),
    option(
        "--feature-cache-gb",
        old="--feature-space",
        type=POSITIVE,
        default=_FIT.feature_cache_gb,
        help="Largest size of the cached features on disk, in GiB.",
    ),
    _PRECISION,
]

_AUDIT_OPTIONS: Final = [_DATASET, _WEIGHTS, _IMAGE_SIZE, _RESIZE, _FLIP, _PRECISION, _SEED, _CACHE, _QUIET]


def data_options(command: F) -> F:
    """Give a command the argument DATASET and the options of `DataConfig`."""
    return _with(command, _DATA_OPTIONS)


def augment_options(command: F) -> F:
    """Give a command the options of `AugmentConfig`."""
    return _with(command, _AUGMENT_OPTIONS)


def audit_options(command: F) -> F:
    """Give a command the argument DATASET and those options that matter without a training."""
    return _with(command, _AUDIT_OPTIONS)


def fit_options(command: F) -> F:
    """Give a command the options of `FitConfig`."""
    return _with(command, _FIT_OPTIONS)


def _with(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for add in reversed(options):
        command = add(command)
    return command


def data_config(options: dict[str, Any]) -> DataConfig:
    """Take the values of `data_options` out of a command's parameters."""
    if options["val"] + options["test"] >= 1:
        raise click.UsageError("--val and --test together leave nothing to train on: lower them")
    return DataConfig(**{name: options.pop(name) for name in DataConfig.__dataclass_fields__})


def augment_config(options: dict[str, Any]) -> AugmentConfig:
    """Take the values of `augment_options` out of a command's parameters."""
    return AugmentConfig(**{name: options.pop(name) for name in AugmentConfig.__dataclass_fields__})


def fit_config(options: dict[str, Any]) -> FitConfig:
    """Take the values of `fit_options` out of a command's parameters."""
    return FitConfig(**{name: options.pop(name) for name in FitConfig.__dataclass_fields__})
