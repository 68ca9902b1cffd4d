"""Near-duplicates: pictures saved again, rescaled or brightened, found by perceptual hash and confirmed by pixels."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

DISTANCE: Final = 6
"""Bits of 64 in which the perceptual hashes of near-duplicates differ at most. Of JPEGs saved again at quality 50,
shrunk by a quarter or made 15% brighter, 98 to 100% are within 6 (measured on the sample digits and on CIFAR-10
photographs); half of those that are within by chance fail the correlation below."""

CORRELATION: Final = 0.95
"""Least Pearson correlation of their pixels."""


def similar_groups(looks: Sequence[int], rows: Sequence[int], images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number the groups of pictures that are near-duplicates, directly or through others.

    Args:
        looks: 64-bit perceptual hash of each picture.
        rows: its row in `images`.
        images: uint8 [M,S,S,3].

    Returns:
        int64 [N], equal for pictures of one group.
    """
    pairs = [(one, other) for one, other in close_pairs(looks) if _go_together(images[rows[one]], images[rows[other]])]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs), np.int8), (first, second)), shape=(len(looks), len(looks)))
    groups: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def close_pairs(looks: Sequence[int], distance: int = DISTANCE) -> Iterator[tuple[int, int]]:
    """All pairs of hashes that differ in at most `distance` of 64 bits, each once, as (lower, higher) index.

    Hashes cut into `distance` + 1 pieces must agree in at least one piece, so only those that share a piece are
    compared (Manku et al., "Detecting Near-Duplicates for Web Crawling", 2007).
    """
    hashes = np.array(looks, np.uint64)
    edges = np.linspace(0, 64, distance + 2).astype(int).tolist()
    pieces = [(hashes >> np.uint64(start)) & np.uint64((1 << (end - start)) - 1) for start, end in pairwise(edges)]
    for position, piece in enumerate(pieces):
        buckets: dict[int, list[int]] = defaultdict(list)
        for index, value in enumerate(piece.tolist()):
            buckets[value].append(index)
        for members in buckets.values():
            for place, one in enumerate(members[:-1]):
                rest = np.array(members[place + 1 :])
                near = rest[np.bitwise_count(hashes[rest] ^ hashes[one]) <= distance]
                for earlier in pieces[:position]:
                    near = near[earlier[near] != earlier[one]]
                yield from ((one, other) for other in near.tolist())


def _go_together(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether the pixels of two images go together; never those of a plain surface, which has nothing to compare."""
    first, second = (image.astype(np.float32).ravel() for image in (one, other))
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return norm > 0 and float(first @ second) >= CORRELATION * norm
