"""Embeddings of the training images, to find the training images that are most similar to another image."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from classify_serving.contract.text import error_reason
from classify_serving.contract.versions import version_folders
from classify_serving.files import replacing

TRAIN_EMBEDDINGS_FILE: Final = "train_embeddings.npz"
"""In the folder of a training run."""
_FILES: Final = (TRAIN_EMBEDDINGS_FILE, "index.npz")
"""The current name, and the name in release 0.1."""
RUN_FILE: Final = "assets.extra/run.txt"
"""In a version's folder: path of the training run's folder, relative to the version's."""

_NEAR_DUPLICATE_QUANTILE: Final = 0.95
_OUTLIER_QUANTILE: Final = 0.01
"""Quantiles, over the training images, of an image's similarity to its nearest neighbour."""
_SAMPLE: Final = 4000
_CHUNK: Final = 1024


class TrainEmbeddingsError(Exception):
    """The embeddings cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class TrainEmbeddings:
    """Embeddings of N training images.

    Attributes:
        vectors: float32 [N,D], each row of length 1.
        digests: SHA-256 of each of the N images, 64 hexadecimal digits.
        labels: label of each of the N images.
        near_duplicate_similarity: cosine similarity at or above which two images count as near-duplicates.
        outlier_similarity: an image is an outlier if its cosine similarity to the nearest training image is below this.
        paths: path of each of the N images, relative to the dataset; none in files of release 0.1.
        thumbnails: each of the N images as a small JPEG file; none if there are too many images.
    """

    vectors: NDArray[np.float32]
    digests: Sequence[str]
    labels: Sequence[str]
    near_duplicate_similarity: float
    outlier_similarity: float
    paths: Sequence[str] = ()
    thumbnails: Sequence[bytes] = ()

    def nearest(
        self, vectors: NDArray[np.float32], digests: Sequence[str], count: int = 1
    ) -> list[list[tuple[float, int]]]:
        """Find the most similar training images for each of M images; an image with the same content does not count.

        Args:
            vectors: float32 [M,D]; need not be normalised.
            digests: SHA-256 of each of the M images, hexadecimal digits.
            count: how many to find.

        Returns:
            For each of the M images: cosine similarity and number of up to `count` training images, the nearest first.
        """
        own, found = self._places, []
        for start in range(0, len(vectors), _CHUNK):
            similarities = normalise(vectors[start : start + _CHUNK]) @ self.vectors.T
            for row, digest in zip(similarities, digests[start : start + _CHUNK], strict=True):
                if digest in own:
                    row[own[digest]] = -np.inf
                best = np.argpartition(-row, min(count, len(row) - 1))[:count]
                best = best[np.argsort(-row[best], kind="stable")]
                found.append([(float(row[place]), int(place)) for place in best if np.isfinite(row[place])])
        return found

    @cached_property
    def _places(self) -> dict[str, int]:
        return {digest: place for place, digest in enumerate(self.digests)}


def make_train_embeddings(
    vectors: NDArray[np.float32], digests: Sequence[str], labels: Sequence[str]
) -> TrainEmbeddings:
    """Normalise the embeddings of training images and derive the two similarity thresholds from them.

    Args:
        vectors: float32 [N,D], N >= 2.
        digests: SHA-256 of each of the N images, hexadecimal digits.
        labels: label of each of the N images.
    """
    embeddings = TrainEmbeddings(normalise(vectors), digests, labels, 1.0, -1.0)
    sample = np.random.default_rng(0).permutation(len(vectors))[:_SAMPLE]
    nearest = embeddings.nearest(vectors[sample], [digests[place] for place in sample])
    outlier, near_duplicate = np.quantile(
        [found[0][0] for found in nearest], (_OUTLIER_QUANTILE, _NEAR_DUPLICATE_QUANTILE)
    )
    return replace(embeddings, near_duplicate_similarity=float(near_duplicate), outlier_similarity=float(outlier))


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row of `vectors`, float32 [N,D], to length 1; a row of zeros stays zero."""
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled


def write_train_embeddings(path: Path, embeddings: TrainEmbeddings) -> None:
    """Write embeddings as a compressed `.npz` file, whole or not at all; the vectors are stored as float16.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            vectors=embeddings.vectors.astype(np.float16),
            digests=np.array(embeddings.digests, np.str_),
            labels=_texts(embeddings.labels),
            paths=_texts(embeddings.paths),
            thumbnails=np.frombuffer(b"".join(embeddings.thumbnails), np.uint8),
            thumbnail_sizes=np.array([len(each) for each in embeddings.thumbnails], np.int64),
            limits=np.array([embeddings.near_duplicate_similarity, embeddings.outlier_similarity]),
        )


def _texts(texts: Sequence[str]) -> NDArray[np.str_]:
    return np.array([text.encode("utf-8", "backslashreplace").decode() for text in texts], np.str_)


def find_train_embeddings(folder: Path, version: int) -> Path | None:
    """Find the embeddings that the training of a version has left in its run's folder; None if there are none now.

    Args:
        folder: a version's folder, or a model's folder.
        version: the version, in a model's folder.
    """
    versions = (path for path in version_folders(folder) if int(path.name) == version)
    runs = filter(None, map(run_of, (folder, *versions)))
    found = (run / TRAIN_EMBEDDINGS_FILE for run in runs)
    return next((path for path in found if path.is_file()), None)


def run_of(version: Path) -> Path | None:
    """The folder of the training run that a version came from; None if it is not known, or no longer there.

    Args:
        version: the version's folder.
    """
    try:
        way = (version / RUN_FILE).read_text(encoding="utf-8").strip()
        run = Path(os.path.normpath(version.resolve() / way))
        return run if way and run.is_dir() else None
    except (OSError, ValueError):
        return None


def read_train_embeddings(path: Path) -> TrainEmbeddings:
    """Read the embeddings of the training images.

    Args:
        path: the file, or the folder of a training run that contains it.

    Raises:
        TrainEmbeddingsError: the file is missing or has other content.
    """
    if path.is_dir():
        path = next((path / name for name in _FILES if (path / name).is_file()), path / TRAIN_EMBEDDINGS_FILE)
    try:
        # Opened here, because NumPy does not close a file that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            near_duplicate, outlier = stored["limits"].tolist()
            has_pictures = "thumbnails" in stored
            embeddings = TrainEmbeddings(
                stored["vectors"].astype(np.float32),
                stored["digests"].tolist(),
                stored["labels"].tolist(),
                near_duplicate,
                outlier,
                stored["paths"].tolist() if has_pictures else (),
                _split(stored["thumbnails"], stored["thumbnail_sizes"]) if has_pictures else (),
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        reason = error_reason(error) if isinstance(error, OSError) else "it does not contain train embeddings"
        raise TrainEmbeddingsError(
            f"cannot read {path} ({reason}): give the {TRAIN_EMBEDDINGS_FILE} of a training run"
        ) from error
    optional = {len(embeddings.paths), len(embeddings.thumbnails)} - {0}
    if {len(embeddings.digests), len(embeddings.labels), *optional} != {len(embeddings.vectors)}:
        raise TrainEmbeddingsError(f"{path} is incomplete: give the {TRAIN_EMBEDDINGS_FILE} of another training run")
    return embeddings


def _split(content: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[bytes]:
    """The files in a concatenation of them."""
    ends = np.cumsum(sizes)
    return [content[end - size : end].tobytes() for end, size in zip(ends, sizes, strict=True)]
