"""All close hashes are found, each pair once, and only those."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from classify_training.data.near_duplicates import close_pairs, near_duplicate_groups

base = st.integers(0, 2**64 - 1)
# Hashes near each other are rare by chance, so some are made by flipping a few bits of others.
hashes = st.lists(st.tuples(base, st.lists(st.integers(0, 63), max_size=10)), max_size=20).map(
    lambda pairs: [h for start, bits in pairs for h in (start, start ^ sum(1 << bit for bit in set(bits)))]
)


@given(hashes, st.integers(0, 8))
def test_close_pairs_are_those_of_a_comparison_of_all(hashes: list[int], distance: int) -> None:
    expected = [
        (one, other)
        for one in range(len(hashes))
        for other in range(one + 1, len(hashes))
        if (hashes[one] ^ hashes[other]).bit_count() <= distance
    ]
    assert sorted(close_pairs(hashes, distance)) == expected


def test_groups_hold_what_is_alike_through_others_too() -> None:
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    images = np.stack([image, image // 2, 255 - image])
    hashes = [0, 0b111111, 0b111111000000]
    assert near_duplicate_groups(hashes, [0, 1, 0], images).tolist() == [0, 0, 0]
    assert near_duplicate_groups(hashes, [0, 2, 0], images).tolist() == [0, 1, 0], "close hashes, but other pixels"
    assert near_duplicate_groups([], [], images).tolist() == []
