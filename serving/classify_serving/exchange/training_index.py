"""`index.npz`: what a model makes of the images it was trained on, to find which of them another image is like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

INDEX_FILE: Final = "index.npz"
"""In the folder of a training's run."""

_ALIKE: Final = 0.95
_UNLIKE: Final = 0.01
"""Quantiles of how like its nearest neighbour a training image is."""
_MOST_ASKED: Final = 4000
_CHUNK: Final = 1024


class IndexFileError(Exception):
    """The index cannot be read; the message names it and the remedy."""


@dataclass(frozen=True)
class TrainingIndex:
    """Training images as unit vectors.

    Attributes:
        vectors: float32 [N,D], each of length 1.
        digests: SHA-256 of each image as hex.
        labels: of each image.
        alike: cosine from which on two images are as like as near-duplicates in training.
        unlike: cosine below which an image is like nothing in training.
    """

    vectors: NDArray[np.float32]
    digests: Sequence[str]
    labels: Sequence[str]
    alike: float
    unlike: float

    def nearest(self, vectors: NDArray[np.float32], digests: Sequence[str]) -> list[tuple[float, str]]:
        """Cosine to the nearest training image of another content, and its label, for each of float32 [M,D]."""
        own = {digest: place for place, digest in enumerate(self.digests)}
        found = []
        for start in range(0, len(vectors), _CHUNK):
            cosines = unit(vectors[start : start + _CHUNK]) @ self.vectors.T
            for row, digest in zip(cosines, digests[start : start + _CHUNK], strict=True):
                if digest in own:
                    row[own[digest]] = -np.inf
                best = int(row.argmax())
                found.append((float(row[best]), self.labels[best]))
        return found


def make_index(vectors: NDArray[np.float32], digests: Sequence[str], labels: Sequence[str]) -> TrainingIndex:
    """Index N >= 2 training images, float32 [N,D]; the limits come from how like each other they are."""
    index = TrainingIndex(unit(vectors), digests, labels, 1.0, -1.0)
    asked = np.random.default_rng(0).permutation(len(vectors))[:_MOST_ASKED]
    cosines = [cosine for cosine, _ in index.nearest(vectors[asked], [digests[place] for place in asked])]
    unlike, alike = np.quantile(cosines, (_UNLIKE, _ALIKE))
    return TrainingIndex(index.vectors, digests, labels, float(alike), float(unlike))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length 1; zeros stay."""
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled


def write_index(path: Path, index: TrainingIndex) -> None:
    """Write the index; vectors are stored as float16."""
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            vectors=index.vectors.astype(np.float16),
            digests=np.array(index.digests, np.str_),
            labels=np.array([label.encode("utf-8", "backslashreplace").decode() for label in index.labels], np.str_),
            limits=np.array([index.alike, index.unlike]),
        )


def read_index(path: Path) -> TrainingIndex:
    """Read an index; of a run's folder, the one inside.

    Raises:
        IndexFileError: there is none, or it is something else.
    """
    path = path / INDEX_FILE if path.is_dir() else path
    try:
        # NumPy would leave a file open that is none of its own.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            alike, unlike = stored["limits"].tolist()
            vectors = stored["vectors"].astype(np.float32)
            index = TrainingIndex(vectors, stored["digests"].tolist(), stored["labels"].tolist(), alike, unlike)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "it is something else"
        raise IndexFileError(
            f"cannot read the index {path} ({reason.lower()}): give {INDEX_FILE} of a run of classify-train"
        ) from error
    if not len(vectors) == len(index.digests) == len(index.labels):
        raise IndexFileError(f"the index {path} is not whole: give {INDEX_FILE} of another run")
    return index
