"""For a doubtful image, the most similar images of the label that is suggested instead."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from classify_training.audit.findings import Finding, JudgedDataset
from classify_training.audit.out_of_fold import ImageSet

_SHOWN: Final = 3


def most_similar(findings: Sequence[Finding], judged: JudgedDataset, images: ImageSet) -> list[list[int]]:
    """The numbers of up to three images of the suggested label for each finding, the most similar first.

    Near-duplicates of the image are not among them. Similarity is that of the features on which the labels were judged.

    Args:
        findings: what is to be compared.
        judged: the dataset.
        images: the features.
    """
    vectors = images.vectors(judged.scores.choice.stage)
    by_label: dict[str, list[int]] = defaultdict(list)
    for place, example in enumerate(judged.dataset.examples):
        by_label[example.file.label].append(place)
    found: list[list[int]] = []
    for finding in findings:
        members = np.array(by_label[finding.suggested], np.int64)
        if finding.place is None or not len(members):
            found.append([])
            continue
        others = members[images.groups[members] != images.groups[finding.place]]
        similarities = vectors[others] @ vectors[finding.place]
        found.append(others[np.argsort(-similarities, kind="stable")[:_SHOWN]].tolist())
    return found
