"""Embeddings of a run's images: `embeddings.npy`, float32 [N,512], and `embeddings.csv`, which image each row is of."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

VECTORS: Final = "embeddings.npy"
IMAGES: Final = "embeddings.csv"
COLUMNS: Final = ("path", "true_class", "predicted", "probability", "file")


class EmbeddingsError(Exception):
    """The two files are not there or do not belong together; the message says which and the remedy."""


@dataclass(frozen=True)
class EmbeddedImage:
    """A line of `embeddings.csv`.

    Attributes:
        path: the file's name in the results.
        true_class: its true class, or empty.
        predicted: the predicted class.
        probability: of that class, in 0-1.
        file: where the file was.
    """

    path: str
    true_class: str
    predicted: str
    probability: float
    file: Path

    @property
    def is_miss(self) -> bool:
        """Whether the prediction is wrong."""
        return bool(self.true_class) and self.true_class != self.predicted


def read_embeddings(folder: Path) -> tuple[NDArray[np.float32], list[EmbeddedImage]]:
    """Read the vectors, float32 [N,D], and the N images they are of, from an output folder.

    Raises:
        EmbeddingsError: they are not there, or cannot be read.
    """
    try:
        vectors: NDArray[np.float32] = np.load(folder / VECTORS, allow_pickle=False).astype(np.float32)
        with (folder / IMAGES).open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != COLUMNS:
                raise ValueError("other columns")
            images = [EmbeddedImage(row[0], row[1], row[2], float(row[3]), Path(row[4])) for row in rows]
        if vectors.ndim != 2 or len(vectors) != len(images):
            raise ValueError(f"{vectors.shape} vectors for {len(images)} lines")
    except FileNotFoundError:
        raise EmbeddingsError(f"no embeddings in {folder}: run classify-client with --embed first") from None
    except (OSError, ValueError, IndexError, csv.Error, EOFError) as error:
        raise EmbeddingsError(
            f"the embeddings in {folder} cannot be read ({error}): run classify-client with --embed again"
        ) from error
    return vectors, images
