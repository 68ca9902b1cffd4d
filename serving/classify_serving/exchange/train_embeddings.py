"""Embeddings of the images a model was trained on, to find the training images that another image is similar to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

TRAIN_EMBEDDINGS_FILE: Final = "train_embeddings.npz"
"""In the folder of a training's run."""
_FILES: Final = (TRAIN_EMBEDDINGS_FILE, "index.npz")
"""Today's name, and the name in runs of release 0.1."""

_NEAR_DUPLICATE_QUANTILE: Final = 0.95
_OUTLIER_QUANTILE: Final = 0.01
"""Quantiles of the similarity of a training image to its nearest neighbour."""
_SAMPLE: Final = 4000
_CHUNK: Final = 1024


class TrainEmbeddingsError(Exception):
    """The embeddings cannot be read; the message names the file and the remedy."""


@dataclass(frozen=True)
class TrainEmbeddings:
    """Training images as unit vectors.

    Attributes:
        vectors: float32 [N,D], each of length 1.
        digests: SHA-256 of each image as hex.
        labels: of each image.
        near_duplicate_similarity: cosine similarity at or above which two images count as near-duplicates.
        outlier_similarity: cosine similarity to the nearest training image below which an image is an outlier.
    """

    vectors: NDArray[np.float32]
    digests: Sequence[str]
    labels: Sequence[str]
    near_duplicate_similarity: float
    outlier_similarity: float

    def nearest(self, vectors: NDArray[np.float32], digests: Sequence[str]) -> list[tuple[float, str]]:
        """Find the nearest training image of another content for each of M images.

        Args:
            vectors: float32 [M,D], of any length.
            digests: SHA-256 of each of the M images as hex.

        Returns:
            Cosine similarity and label of the nearest training image, for each of the M images.
        """
        own = {digest: place for place, digest in enumerate(self.digests)}
        found = []
        for start in range(0, len(vectors), _CHUNK):
            similarities = normalise(vectors[start : start + _CHUNK]) @ self.vectors.T
            for row, digest in zip(similarities, digests[start : start + _CHUNK], strict=True):
                if digest in own:
                    row[own[digest]] = -np.inf
                best = int(row.argmax())
                found.append((float(row[best]), self.labels[best]))
        return found


def make_train_embeddings(
    vectors: NDArray[np.float32], digests: Sequence[str], labels: Sequence[str]
) -> TrainEmbeddings:
    """Embeddings of N >= 2 training images, float32 [N,D], with thresholds from their similarities to each other."""
    embeddings = TrainEmbeddings(normalise(vectors), digests, labels, 1.0, -1.0)
    sample = np.random.default_rng(0).permutation(len(vectors))[:_SAMPLE]
    nearest = embeddings.nearest(vectors[sample], [digests[place] for place in sample])
    outlier, near_duplicate = np.quantile(
        [similarity for similarity, _ in nearest], (_OUTLIER_QUANTILE, _NEAR_DUPLICATE_QUANTILE)
    )
    return TrainEmbeddings(embeddings.vectors, digests, labels, float(near_duplicate), float(outlier))


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors, float32 [N,D], to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled


def write_train_embeddings(path: Path, embeddings: TrainEmbeddings) -> None:
    """Write embeddings as a compressed `.npz`; vectors are stored as float16."""
    labels = [label.encode("utf-8", "backslashreplace").decode() for label in embeddings.labels]
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            vectors=embeddings.vectors.astype(np.float16),
            digests=np.array(embeddings.digests, np.str_),
            labels=np.array(labels, np.str_),
            limits=np.array([embeddings.near_duplicate_similarity, embeddings.outlier_similarity]),
        )


def read_train_embeddings(path: Path) -> TrainEmbeddings:
    """Read embeddings from a file, or from a run's folder that contains one.

    Raises:
        TrainEmbeddingsError: there is no such file, or it is something else.
    """
    if path.is_dir():
        path = next((path / name for name in _FILES if (path / name).is_file()), path / TRAIN_EMBEDDINGS_FILE)
    try:
        # NumPy would leave a file open that is not one of its own.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            near_duplicate, outlier = stored["limits"].tolist()
            embeddings = TrainEmbeddings(
                stored["vectors"].astype(np.float32),
                stored["digests"].tolist(),
                stored["labels"].tolist(),
                near_duplicate,
                outlier,
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        reason = getattr(error, "strerror", None) or "it is another kind of file"
        raise TrainEmbeddingsError(
            f"cannot read {path} ({reason.lower()}): give the {TRAIN_EMBEDDINGS_FILE} of a run of classify-train"
        ) from error
    if not len(embeddings.vectors) == len(embeddings.digests) == len(embeddings.labels):
        raise TrainEmbeddingsError(f"{path} is incomplete: give the {TRAIN_EMBEDDINGS_FILE} of another run")
    return embeddings
