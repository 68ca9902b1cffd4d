"""One picture, one example, on one side of a split."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_training.data.examples import Example, ImageFile, Split

_STRONGEST_FIRST: Final[tuple[Split | None, ...]] = ("test", "val", "train", None)
"""Of equal images the one is kept whose split must stay clean."""


def drop_duplicates(
    examples: Iterable[Example],
) -> tuple[list[Example], list[ImageFile], list[tuple[ImageFile, ...]]]:
    """Keep one file of each content: (kept in their order, duplicates, label conflicts).

    Of equal files the one kept is in the split that must stay clean: test before val before train. Equal
    files under different labels teach a contradiction, so none of them is kept.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.digest].append(example)
    kept: list[Example] = []
    duplicates: list[ImageFile] = []
    conflicts: list[tuple[ImageFile, ...]] = []
    for group in groups.values():
        if len({example.file.label for example in group}) > 1:
            conflicts.append(tuple(example.file for example in group))
            continue
        first, *rest = sorted(group, key=lambda example: _strength(example.file.split))
        kept.append(first)
        duplicates.extend(example.file for example in rest)
    return kept, duplicates, conflicts


def drop_leaks(examples: Sequence[Example], groups: NDArray[np.int64]) -> list[int]:
    """Indices of the examples to keep, where the dataset's own folders put near-duplicates into two splits.

    Kept are those in the split that must stay clean. Images of no split, or of `train`, do not conflict: they
    are still to be split, and their groups are then kept together.

    Args:
        examples: what was found.
        groups: int64 [N], equal for near-duplicates.
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
