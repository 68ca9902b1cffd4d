"""Everything a training depends on, in one frozen record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from classify_serving.images import Resize
from classify_training.errors import WeightsError

Balance = Literal["oversample", "none"]


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
        balance: whether small classes are repeated up to the largest.
        seed: of splitting, balancing, augmenting, weights and dropout.
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
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of the training images.

    Attributes:
        flip: mirror left to right, every second image.
        shift: largest shift in each direction, as a fraction of the side.
        rotate: largest rotation either way in degrees.
        erase: probability that a rectangle is overpainted with noise; `RandomErasing` has its measures.
    """

    flip: bool = True
    shift: float = 0.1
    rotate: float = 20.0
    erase: float = 0.5


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How the model is trained.

    Attributes:
        weights: `imagenet`, `random`, or a path to weights of `VGG16(include_top=False)`.
        batch_size: images a step.
        head_epochs: at most so many for the head alone, on frozen convolutions; none with random weights.
        epochs: at most so many of fine-tuning.
        head_rate: Adam's learning rate for the head.
        rate: its peak rate while fine-tuning; it falls to 0 along a cosine.
        patience: epochs without a better validation loss after which a phase ends.
    """

    weights: str = "imagenet"
    batch_size: int = 32
    head_epochs: int = 10
    epochs: int = 15
    head_rate: float = 1e-3
    rate: float = 1e-4
    patience: int = 4


def check_weights(weights: str) -> None:
    """Raise WeightsError for a path to no file; whether it fits is seen when it is read."""
    if weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise WeightsError(f"no weights file {weights}: give a path to one, or --weights imagenet or random")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training, from dataset to SavedModel version.

    Attributes:
        output: the model's folder `<models>/<name>`; versions are numbered folders in it.
    """

    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    fit: FitConfig = FitConfig()
    output: Path
    quiet: bool = False
