"""An audit of a dataset: its images are judged by cheap models on the features of a network that is not trained."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from classify_serving.exchange.review import CONFIRMED, ReviewError, read_confirmed
from classify_training.audit.features import features_of
from classify_training.audit.findings import Finding, JudgedDataset, find_issues
from classify_training.audit.label_errors import SelfTest, score_labels, self_test
from classify_training.audit.out_of_fold import UNKNOWN, ImageSet
from classify_training.audit.outliers import outliers
from classify_training.config import AuditConfig
from classify_training.data.batches import batches
from classify_training.data.dataset import Dataset, load
from classify_training.errors import DatasetError
from classify_training.progress import stage

_FEWEST_IMAGES: Final = 40
_LEAST_ACCURACY: Final = 0.6
_BATCH: Final = 64


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result of an audit.

    Attributes:
        judged: the dataset and what models think of its labels.
        images: the features of the judged images.
        test: what came of labels that were made wrong on purpose.
        findings: what may be wrong, the most suspicious first.
        confirmed: (SHA-256, label) that are confirmed in the dataset.
    """

    judged: JudgedDataset
    images: ImageSet
    test: SelfTest
    findings: list[Finding]
    confirmed: Collection[tuple[str, str]]


def audit(config: AuditConfig) -> Audit:
    """Judge every label of a dataset, before small classes are merged; find duplicates, outliers and broken files.

    Raises:
        DatasetError: the dataset cannot be read, has images of one label only, or a broken list of confirmed labels.
        CacheError: decoded images cannot be written.
        WeightsError: the pretrained weights cannot be downloaded, read or used.
        Interrupted: a signal arrived.
    """
    dataset = _with_conflicts(load(config.data, config.quiet, with_leaks=True))
    labels = tuple(sorted({example.file.label for example in dataset.examples}))
    conflicting = {example.digest for group in dataset.conflicts for example in group}
    numbers = np.array(
        [UNKNOWN if each.digest in conflicting else labels.index(each.file.label) for each in dataset.examples]
    )
    if len(np.unique(numbers[numbers != UNKNOWN])) < 2:
        raise DatasetError(
            f"{dataset.root} has usable images of one label only: labels are judged by comparing several"
        )
    try:
        confirmed = read_confirmed(dataset.root / CONFIRMED)
    except ReviewError as error:
        raise DatasetError(str(error)) from error
    images = ImageSet(features_of(dataset, config), numbers, dataset.groups, len(labels))
    with stage("Judging the labels", config.quiet):
        scores = score_labels(images, config.data.seed)
        test = self_test(images, scores, config.data.seed)
        everything = np.arange(len(dataset.examples))
        unlike = outliers(dataset.pixels(batch) for batch in batches(everything, _BATCH))
    judged = JudgedDataset(dataset, labels, scores, weakness(len(numbers), scores.accuracy, test), unlike)
    return Audit(judged=judged, images=images, test=test, findings=find_issues(judged, confirmed), confirmed=confirmed)


def _with_conflicts(dataset: Dataset) -> Dataset:
    """A dataset that also has one example of each picture with several labels."""
    extra = [group[0] for group in dataset.conflicts]
    first = int(dataset.groups.max(initial=-1)) + 1
    return replace(
        dataset,
        examples=(*dataset.examples, *extra),
        groups=np.concatenate([dataset.groups, np.arange(first, first + len(extra))]),
    )


def weakness(images: int, accuracy: float, test: SelfTest) -> str:
    """Why no label can be called likely wrong; empty if labels can be judged.

    Args:
        images: their number.
        accuracy: share of the labels with which out-of-fold models agree, 0-1.
        test: what came of labels that were made wrong on purpose.
    """
    if images < _FEWEST_IMAGES:
        return f"{images} images are too few to judge labels by each other"
    if accuracy < _LEAST_ACCURACY:
        return (
            f"models that are fitted to the other images agree with only {accuracy:.0%} of the labels: this network"
            " knows too little about such images"
        )
    if test.is_weak:
        return f"of {test.planted} labels that were made wrong as a test, only {test.found} were found"
    return ""
