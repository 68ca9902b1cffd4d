"""Positions on the map: images that are similar to the model are placed close together."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from classify_serving.exchange.embeddings import EmbeddedImage

_PERPLEXITY: Final = 30.0
_PRINCIPAL: Final = 50


def choose(images: Sequence[EmbeddedImage], max_images: int, seed: int) -> NDArray[np.int64]:
    """Choose up to `max_images` images: misclassified ones first, then others, at random.

    Returns:
        int64, indices into `images`, ascending.
    """
    misses = np.array([place for place, entry in enumerate(images) if entry.is_miss], np.int64)
    others = np.array([place for place, entry in enumerate(images) if not entry.is_miss], np.int64)
    random = np.random.default_rng(seed)
    misses = random.permutation(misses)[:max_images]
    return np.sort(np.concatenate([misses, random.permutation(others)[: max_images - len(misses)]]))


def lay_out(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Compute positions for vectors, float32 [N,D]: float32 [N,2], each axis in 0-1.

    scikit-learn's t-SNE (van der Maaten and Hinton, 2008) of the first 50 principal components of the unit vectors, so
    that distances correspond to cosine similarity; the perplexity is 30, or less for few images. Distances between
    groups that are far apart have no meaning.
    """
    count = len(vectors)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    if count < 4 or np.ptp(unit, axis=0).max() < 1e-6:
        # Too few images, or all vectors are equal.
        places = np.stack([np.arange(count), np.zeros(count)], axis=1)
    else:
        reduced = PCA(min(_PRINCIPAL, *unit.shape), random_state=seed).fit_transform(unit)
        perplexity = min(_PERPLEXITY, (count - 1) / 3)
        places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    extent = np.ptp(places, axis=0)
    scaled: NDArray[np.float32] = ((places - places.min(axis=0)) / np.where(extent > 0, extent, 1)).astype(np.float32)
    return scaled
