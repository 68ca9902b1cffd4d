"""For a doubtful image, the most similar images of the label that is suggested instead."""

from collections import defaultdict
from typing import Final

import numpy as np

from classify_training.audit.findings import Finding, JudgedDataset
from classify_training.audit.out_of_fold import ImageSet

_SHOWN: Final = 3


class SimilarImages:
    """The images of a dataset by their labels, to compare others with.

    Args:
        judged: the dataset.
        images: the features on which its labels were judged.
    """

    def __init__(self, judged: JudgedDataset, images: ImageSet) -> None:
        self._vectors, self._groups = images.vectors(judged.scores.choice.stage), images.groups
        self._members: dict[str, list[int]] = defaultdict(list)
        for place, example in enumerate(judged.dataset.examples):
            self._members[example.file.label].append(place)

    def most_similar(self, finding: Finding) -> list[int]:
        """The numbers of up to three images of the suggested label, the most similar first; no near-duplicates."""
        members = np.array(self._members.get(finding.suggested, []), np.int64)
        if finding.place is None or not len(members):
            return []
        others = members[self._groups[members] != self._groups[finding.place]]
        similarities = self._vectors[others] @ self._vectors[finding.place]
        nearest: list[int] = others[np.argsort(-similarities, kind="stable")[:_SHOWN]].tolist()
        return nearest
