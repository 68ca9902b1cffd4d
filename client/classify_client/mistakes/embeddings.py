"""Embeddings of a run's images: saved for a map (`--embed`), or compared with those of the training images."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_client.mistakes.batches import OpenedImage
from classify_client.mistakes.issues import Nearest
from classify_client.results.reader import Item
from classify_serving.contract.text import printable
from classify_serving.exchange.embeddings import COLUMNS, IMAGES, VECTORS
from classify_serving.exchange.train_embeddings import TrainEmbeddings
from classify_serving.files import replacing

SHOWN: Final = 3
"""Training images to compare a miss with."""


@dataclass
class Embeddings:
    """The embeddings of a run's images, in memory until they are written: 2 KiB an image."""

    items: list[Item] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, batch: Sequence[OpenedImage], vectors: NDArray[np.float32]) -> None:
        """Add N images with their vectors, float32 [N,512]."""
        self.items += [image.item for image in batch]
        self.vectors += list(vectors)

    def write(self, folder: Path) -> None:
        """Write `embeddings.npy` and, line by line, `embeddings.csv`, in the order of the results.

        Raises:
            OSError: they cannot be written.
        """
        if not self.items:
            return
        order = sorted(range(len(self.items)), key=lambda place: self.items[place].position)
        with replacing(folder / VECTORS) as path, path.open("wb") as file:
            np.save(file, np.stack([self.vectors[place] for place in order]))
        with replacing(folder / IMAGES) as path, path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows(_line(self.items[place]) for place in order)


def _line(item: Item) -> tuple[str, ...]:
    row = item.row
    file = next((path for path in item.candidate_paths if path.is_file()), item.file)
    return row.path, row.true_class, row.predicted, f"{row.probability:.6f}", printable(str(file.absolute()))


def nearest_in_training(
    batch: Sequence[OpenedImage], vectors: NDArray[np.float32], train: TrainEmbeddings
) -> dict[str, Nearest]:
    """The most similar training images of each of N images, by path; never the image itself.

    Args:
        batch: N images.
        vectors: their embeddings, float32 [N,512].
        train: embeddings of the training images.
    """
    neighbours = train.nearest(vectors, [image.digest for image in batch], SHOWN)
    return {
        image.item.row.path: Nearest(
            train.labels[found[0][1]],
            found[0][0] >= train.near_duplicate_similarity,
            found[0][0] < train.outlier_similarity,
            [place for _, place in found],
        )
        for image, found in zip(batch, neighbours, strict=True)
        if found
    }
