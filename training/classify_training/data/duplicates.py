"""Files with the same content, and near-duplicates in different splits."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_training.data.examples import Example, ImageFile, Split

_STRONGEST_FIRST: Final[tuple[Split | None, ...]] = ("test", "val", "train", None)
"""Of equal images, the one in the earlier split of this list is kept, so that test images are never trained on."""


def drop_duplicates(
    examples: Iterable[Example],
) -> tuple[list[Example], list[ImageFile], list[tuple[Example, ...]]]:
    """Keep one file of each content.

    Of files with the same content, the one in `test` is kept before one in `val` and one in `train`. If they have
    different labels, none of them is kept, because at least one label is wrong.

    Returns:
        The examples that are kept, in their order; duplicates; groups of examples with conflicting labels.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.digest].append(example)
    kept: list[Example] = []
    duplicates: list[ImageFile] = []
    conflicts: list[tuple[Example, ...]] = []
    for group in groups.values():
        if len({example.file.label for example in group}) > 1:
            conflicts.append(tuple(group))
            continue
        first, *rest = sorted(group, key=lambda example: _strength(example.file.split))
        kept.append(first)
        duplicates.extend(example.file for example in rest)
    return kept, duplicates, conflicts


def drop_leaks(examples: Sequence[Example], groups: NDArray[np.int64]) -> list[int]:
    """Find the examples to keep if the dataset's own folders put near-duplicates into different splits.

    Of near-duplicates, those in `test` are kept before those in `val` and the others. Images in `train` and without a
    split do not conflict: they are split later, and near-duplicates among them stay together.

    Args:
        examples: N examples.
        groups: int64 [N], equal for near-duplicates of each other.

    Returns:
        Indices of the examples to keep, ascending.
    """
    strongest: dict[int, int] = {}
    strengths = [min(_strength(example.file.split), _strength("train")) for example in examples]
    for strength, group in zip(strengths, groups.tolist(), strict=True):
        strongest[group] = min(strength, strongest.get(group, strength))
    return [
        index
        for index, (strength, group) in enumerate(zip(strengths, groups.tolist(), strict=True))
        if strength == strongest[group]
    ]


def _strength(split: Split | None) -> int:
    return _STRONGEST_FIRST.index(split)
