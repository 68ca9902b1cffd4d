"""Near-duplicates: images saved again, rescaled or brightened, found by perceptual hash and confirmed by pixels."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

DISTANCE: Final = 6
"""Perceptual hashes of near-duplicates differ in at most this number of their 64 bits. Of JPEGs saved again at quality
50, reduced by a quarter or made 15% brighter, 98 to 100% differ in at most 6 bits (measured on the sample digits and on
CIFAR-10 photographs); half of the pairs within 6 bits by chance fail the correlation below."""

CORRELATION: Final = 0.95
"""The Pearson correlation of the pixels of near-duplicates is at least this."""


def near_duplicate_groups(hashes: Sequence[int], rows: Sequence[int], images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number the groups of images that are near-duplicates, directly or through other images.

    Args:
        hashes: 64-bit perceptual hash of each image.
        rows: row of each image in `images`.
        images: uint8 [M,S,S,3].

    Returns:
        int64 [N], equal for images of one group.
    """
    pairs = [
        (one, other) for one, other in close_pairs(hashes) if _are_correlated(images[rows[one]], images[rows[other]])
    ]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs), np.int8), (first, second)), shape=(len(hashes), len(hashes)))
    groups: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def close_pairs(hashes: Sequence[int], distance: int = DISTANCE) -> Iterator[tuple[int, int]]:
    """Yield all pairs of hashes that differ in at most `distance` of 64 bits, each once, as (lower, higher) index.

    If hashes are cut into `distance` + 1 pieces, such a pair agrees in at least one piece, so only hashes that share a
    piece are compared (Manku et al., "Detecting Near-Duplicates for Web Crawling", 2007).
    """
    bits = np.array(hashes, np.uint64)
    edges = np.linspace(0, 64, distance + 2).astype(int).tolist()
    pieces = [(bits >> np.uint64(start)) & np.uint64((1 << (end - start)) - 1) for start, end in pairwise(edges)]
    for position, piece in enumerate(pieces):
        buckets: dict[int, list[int]] = defaultdict(list)
        for index, value in enumerate(piece.tolist()):
            buckets[value].append(index)
        for members in buckets.values():
            for place, one in enumerate(members[:-1]):
                rest = np.array(members[place + 1 :])
                near = rest[np.bitwise_count(bits[rest] ^ bits[one]) <= distance]
                for earlier in pieces[:position]:
                    near = near[earlier[near] != earlier[one]]
                yield from ((one, other) for other in near.tolist())


def _are_correlated(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether the pixels of two images are correlated; an image of one colour is correlated with no other."""
    first, second = (image.astype(np.float32).ravel() for image in (one, other))
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return norm > 0 and float(first @ second) >= CORRELATION * norm
