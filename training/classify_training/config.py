"""Everything a training depends on, in one frozen record."""

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
OutputInit = Literal["glorot_uniform", "random_uniform"]
Schedule = Literal["cosine", "constant"]

BALANCES: Final[tuple[Balance, ...]] = get_args(Balance)
FILLS: Final[tuple[Fill, ...]] = get_args(Fill)
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
OUTPUT_INITS: Final[tuple[OutputInit, ...]] = get_args(OutputInit)
SCHEDULES: Final[tuple[Schedule, ...]] = get_args(Schedule)

CACHE: Final = platformdirs.user_cache_path("classify-train")
"""Where decoded images are kept, unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a dataset is read, split and balanced.

    Attributes:
        dataset: its folder.
        size: side of the square images in pixels, at least 32 (VGG16 halves it five times).
        resize: how an image of another aspect ratio is made square.
        val: fraction of each class kept to decide when to stop.
        test: fraction of each class kept for the final mark.
        min_images: classes with fewer training images are merged into `others`.
        others: name of that class.
        merge: merges by hand, folder -> class.
        max_ratio: classes are thinned to this many times the median.
        balance: whether images of small classes are repeated, or weigh more in the loss.
        strict: whether a corrupt file is an error.
        seed: of splitting, balancing, augmenting, weights and dropout.
        cache: folder for decoded images.
    """

    dataset: Path
    size: int = 128
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


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of the training images; those of erasing are described at `RandomErasing`.

    Attributes:
        flip: mirror left to right, every second image.
        shift: largest shift in each direction, as a fraction of the side.
        rotate: largest rotation either way in degrees.
        erase: probability that a rectangle is overpainted.
        erase_area: range of its area, as fractions of the image.
        erase_aspect: range of its height / width.
        erase_values: range of the painted values, of images in 0-255.
        erase_fill: noise of its own in each pixel, or one colour a rectangle.
    """

    flip: bool = True
    shift: float = 0.1
    rotate: float = 20.0
    erase: float = 0.5
    erase_area: tuple[float, float] = (0.02, 0.4)
    erase_aspect: tuple[float, float] = (0.3, 1 / 0.3)
    erase_values: tuple[float, float] = (0.0, 255.0)
    erase_fill: Fill = "noise"


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How the model is trained.

    Attributes:
        weights: `imagenet`, `random`, or a path to weights of `VGG16(include_top=False)`.
        unfreeze: the first stage of the backbone that is fine-tuned, `all` or `none`; with random weights all are.
        batch_size: images a step, over all GPUs together.
        head_epochs: at most so many for the head alone, on frozen convolutions; none with random weights.
        epochs: at most so many of fine-tuning.
        head_rate: Adam's learning rate for the head alone.
        rate: its peak rate while fine-tuning; 0 stands for 1e-5, and 1e-4 from random weights.
        schedule: `cosine` warms up and falls to 0 in each phase, `constant` stays.
        output_init: the output layer's initial weights.
        label_smoothing: share of the truth spread over all classes (Szegedy et al., 2016).
        patience: epochs without a better validation loss after which a phase ends.
        variants: augmentations of each image that frozen convolutions are run on, once each; 0 runs them anew
            in every epoch.
        feature_space: GiB of disk that their results may take.
        precision: number format of the computation; weights are float32 always.
    """

    weights: str = "imagenet"
    unfreeze: str = "block5"
    batch_size: int = 32
    head_epochs: int = 10
    epochs: int = 15
    head_rate: float = 1e-4
    rate: float = 0.0
    schedule: Schedule = "cosine"
    output_init: OutputInit = "glorot_uniform"
    label_smoothing: float = 0.0
    patience: int = 4
    variants: int = 6
    feature_space: float = 8.0
    precision: Precision = "auto"

    @property
    def peak_rate(self) -> float:
        """The peak learning rate of fine-tuning, decided."""
        return self.rate or (1e-4 if self.weights == "random" else 1e-5)


ARTICLE: Final[Mapping[str, object]] = {
    "unfreeze": "all",
    "head_epochs": 0,
    "epochs": 40,
    "rate": 1e-3,
    "schedule": "constant",
    "output_init": "random_uniform",
    "erase": 0.0,
    "patience": 40,
    "precision": "float32",
}
"""The options of the article that this tool grew out of: everything trainable at once, Adam at its default rate."""

RECIPES: Final[Mapping[str, Mapping[str, object]]] = {"default": {}, "article": ARTICLE}


def check_weights(weights: str) -> None:
    """Raise WeightsError for a path to no file; whether it fits is seen when it is read."""
    if weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise WeightsError(f"no weights file {weights}: give a path to one, or --weights imagenet or random")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training, from dataset to SavedModel version.

    Attributes:
        output: the model's folder `<models>/<name>`; versions are numbered folders in it.
        runs: folder of the runs' folders.
        resume: whether to go on with a killed run of the same configuration.
    """

    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    fit: FitConfig = FitConfig()
    output: Path
    runs: Path = Path("runs")
    resume: bool = True
    quiet: bool = False
