"""Embeddings of the images of a client's run: `embeddings.npy`, float32 [N,512], and `embeddings.csv`, its N images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_serving.contract.text import error_reason
from classify_serving.exchange.csv_columns import ColumnsError, read_columns

VECTORS: Final = "embeddings.npy"
IMAGES: Final = "embeddings.csv"
COLUMNS: Final = ("path", "true_class", "predicted", "probability", "file")


class EmbeddingsError(Exception):
    """The embeddings are missing or cannot be read; the message names the folder and what to do."""


@dataclass(frozen=True)
class EmbeddedImage:
    """One line of `embeddings.csv`.

    Attributes:
        path: the image's path in the results, relative to the input folder.
        true_class: its true class; empty if unknown.
        predicted: the predicted class.
        probability: probability of the predicted class, 0-1.
        file: absolute path of the file when it was classified.
    """

    path: str
    true_class: str
    predicted: str
    probability: float
    file: Path

    @property
    def is_miss(self) -> bool:
        """Whether the true class is known and the prediction is another class."""
        return bool(self.true_class) and self.true_class != self.predicted


def read_embeddings(folder: Path) -> tuple[NDArray[np.float32], list[EmbeddedImage]]:
    """Read the embeddings in a client's output folder.

    Returns:
        The vectors, float32 [N,D], and their N images in the same order.

    Raises:
        EmbeddingsError: the files are missing, cannot be read, or do not belong together.
    """
    try:
        vectors: NDArray[np.float32] = np.load(folder / VECTORS, allow_pickle=False).astype(np.float32)
        rows = read_columns(folder / IMAGES, COLUMNS)
        images = [EmbeddedImage(path, true, pred, float(prob), Path(file)) for path, true, pred, prob, file in rows]
        if vectors.ndim != 2 or len(vectors) != len(images):
            raise ValueError(f"{VECTORS} has the shape {vectors.shape}, but {IMAGES} has {len(images)} images")
    except FileNotFoundError:
        raise EmbeddingsError(f"no embeddings in {folder}: run classify-client with --embed first") from None
    except (OSError, ValueError, ColumnsError, EOFError) as error:
        raise EmbeddingsError(
            f"the embeddings in {folder} cannot be read ({error_reason(error)}): run classify-client with --embed again"
        ) from error
    return vectors, images
