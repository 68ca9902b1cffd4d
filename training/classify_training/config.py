"""Everything a training or an audit depends on, in frozen records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import platformdirs

from classify_serving.contract.images import Resize
from classify_training.errors import WeightsError

Balance = Literal["oversample", "weights", "none"]
Fill = Literal["noise", "colour"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
OutputInit = Literal["zeros", "glorot_uniform", "random_uniform"]
Schedule = Literal["plateau", "cosine", "constant"]
HeadFeatures = Literal["auto", "multi-level", "last"]

BALANCES: Final[tuple[Balance, ...]] = get_args(Balance)
FILLS: Final[tuple[Fill, ...]] = get_args(Fill)
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
OUTPUT_INITS: Final[tuple[OutputInit, ...]] = get_args(OutputInit)
SCHEDULES: Final[tuple[Schedule, ...]] = get_args(Schedule)
HEAD_FEATURES: Final[tuple[HeadFeatures, ...]] = get_args(HeadFeatures)

CACHE: Final = platformdirs.user_cache_path("classify-train")
"""Default folder for decoded images, and features of audited ones."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a dataset is read, split and balanced.

    Attributes:
        dataset: the dataset's folder.
        image_size: side of the square images in pixels, at least the backbone's minimum (VGG16: 32).
        resize: how an image that is not square is made square.
        val: fraction of each class used for validation.
        test: fraction of each class held out for the final evaluation.
        min_images: classes with fewer training images are merged into `others`.
        others: name of the class that small classes are merged into.
        merge: merges chosen by the user, folder -> class.
        max_ratio: larger classes are reduced to this many times the median class size.
        balance: how classes of different sizes are balanced.
        strict: whether a file that cannot be read is an error.
        seed: seed of splitting, balancing, augmentation, random weights and dropout.
        cache: folder for decoded images.
    """

    dataset: Path
    image_size: int = 128
    resize: Resize = "stretch"
    val: float = 0.15
    test: float = 0.1
    min_images: int = 20
    others: str = "others"
    merge: Mapping[str, str] = field(default_factory=dict)
    max_ratio: float = 3.0
    balance: Balance = "oversample"
    strict: bool = False
    seed: int = 1
    cache: Path = CACHE

    @property
    def is_balanced(self) -> bool:
        """Whether all classes count equally."""
        return self.balance != "none"


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of the training images; `RandomErasing` explains the parameters of erasing.

    Attributes:
        flip: mirror left to right with probability 0.5.
        shift: largest shift in each direction, as a fraction of the side.
        rotate: largest rotation in either direction, in degrees.
        erase: probability that a rectangle of an image is erased.
        erase_area: range of the rectangle's area, as fractions of the image.
        erase_aspect: range of the rectangle's height / width.
        erase_values: range of the values painted into the rectangle, for images in 0-255.
        erase_fill: `noise` draws every pixel, `colour` draws one colour for the rectangle.
    """

    flip: bool = True
    shift: float = 0.1
    rotate: float = 20.0
    erase: float = 0.5
    erase_area: tuple[float, float] = (0.02, 0.4)
    erase_aspect: tuple[float, float] = (0.3, 1 / 0.3)
    erase_values: tuple[float, float] = (0.0, 255.0)
    erase_fill: Fill = "noise"


AUTO: Final = "auto"
"""The value of `unfreeze` and of `head_features` with which the data decide."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How the model is trained.

    Attributes:
        weights: initial weights of the backbone: `imagenet`, `random`, or a path to weights of
            `VGG16(include_top=False)`.
        unfreeze: first stage of the backbone that is fine-tuned, or `all` or `none`; `auto` decides by the data.
            Random weights are trained whole.
        head_features: what the head takes: `multi-level` is the flattened last feature map and the mean features of
            the two stages before, `last` is the flattened map alone; `auto` decides by the data.
        standardise: scale the network and the head's inputs to unit variance on training images before training.
        batch_size: images in one training step, on all GPUs together.
        head_epochs: largest number of epochs for the head alone, while the backbone is frozen; not used with random
            weights.
        epochs: largest number of epochs of each phase of fine-tuning.
        head_learning_rate: Adam's peak learning rate for the head alone.
        learning_rate: Adam's peak learning rate for fine-tuning; 0 means 3e-4, or 1e-4 with random weights.
        schedule: `plateau` keeps the peak rate until the validation loss stops falling and then decays to 0, `cosine`
            decays to 0 over the largest number of epochs, `constant` keeps the peak rate.
        output_init: initial weights of the output layer; with zeros, the first gradients come from no random guess.
        label_smoothing: fraction of the target probability that is spread over all classes (Szegedy et al., 2016).
        patience: epochs without a lower validation loss after which it counts as no longer falling.
        cached_augmentations: augmentations of each image for which the features of frozen layers are computed once
            and cached; 0 computes the features again in every epoch.
        feature_cache_gb: largest size of these cached features on disk, in GiB.
        precision: number format of the computation; weights are always stored as float32.
        time_budget: seconds that the whole training may take; 0 for no limit.
    """

    weights: str = "imagenet"
    unfreeze: str = AUTO
    head_features: HeadFeatures = AUTO
    standardise: bool = True
    batch_size: int = 32
    head_epochs: int = 100
    epochs: int = 100
    head_learning_rate: float = 3e-4
    learning_rate: float = 0.0
    schedule: Schedule = "plateau"
    output_init: OutputInit = "zeros"
    label_smoothing: float = 0.0
    patience: int = 4
    cached_augmentations: int = 3
    feature_cache_gb: float = 8.0
    precision: Precision = "auto"
    time_budget: float = 0.0

    @property
    def peak_learning_rate(self) -> float:
        """The peak learning rate of fine-tuning, with the default resolved."""
        # They suit any weights because the network is first scaled to unit variance (`standardise`).
        return self.learning_rate or (1e-4 if self.weights == "random" else 3e-4)


ARTICLE: Final[Mapping[str, object]] = {
    "unfreeze": "all",
    "head_features": "last",
    "standardise": False,
    "head_epochs": 0,
    "epochs": 40,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "output_init": "random_uniform",
    "erase": 0.0,
    "patience": 40,
    "precision": "float32",
}
"""Options of the article that this tool started from: all layers are trained at once, with Adam's default rate."""

RECIPES: Final[Mapping[str, Mapping[str, object]]] = {"default": {}, "article": ARTICLE}


def check_weights(weights: str) -> None:
    """Check that a path to weights exists; the content is checked when it is loaded.

    Raises:
        WeightsError: it is neither `imagenet` nor `random` nor an existing file.
    """
    if weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise WeightsError(f"no weights file {weights}: give a path to one, or --weights imagenet or random")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training, from a dataset to a version of a SavedModel.

    Attributes:
        data: reading, splitting and balancing.
        augment: augmentation.
        fit: model and optimisation.
        output: the model's folder `<models>/<name>`; versions are numbered folders in it.
        runs: folder in which each run gets a folder of its own.
        resume: whether to resume a killed run of the same configuration.
        quiet: whether to show no progress.
    """

    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    fit: FitConfig = FitConfig()
    output: Path
    runs: Path = Path("runs")
    resume: bool = True
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """How a dataset is audited.

    Attributes:
        data: how it is read; splits, merges and balance do not matter here.
        weights: of the network: `imagenet`, `random` or a path.
        flip: whether mirrored images have the same label.
        precision: number format of the network's computation.
        quiet: whether to show no progress.
    """

    data: DataConfig
    weights: str
    flip: bool
    precision: Precision
    quiet: bool = False
