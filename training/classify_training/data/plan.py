"""The plan of a training: splits, merges and balance, decided before anything is trained."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_training.config import DataConfig
from classify_training.data.balance import balance, class_weights, merge_counts, plan_merges
from classify_training.data.dataset import Dataset, fingerprint, load, with_splits
from classify_training.data.examples import Split
from classify_training.data.split import assign_splits
from classify_training.errors import DatasetError

_FEW_TEST_IMAGES: Final = 5


@dataclass(frozen=True)
class Plan:
    """A dataset with splits, merged classes and balance.

    Attributes:
        dataset: N examples with their splits.
        merges: folder -> class that it is merged into.
        class_names: the C classes, sorted, in the order of the model's outputs.
        targets: int64 [N], each example's index into `class_names`.
        epoch_examples: int64 [M], the examples that an epoch trains on, including repetitions.
        class_weights: float32 [C], weight of an image of each class in the loss.
    """

    dataset: Dataset
    merges: Mapping[str, str]
    class_names: tuple[str, ...]
    targets: NDArray[np.int64]
    epoch_examples: NDArray[np.int64]
    class_weights: NDArray[np.float32]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the contents, labels and splits of the dataset, as hex."""
        return fingerprint(self.dataset.examples)

    def indices(self, split: Split) -> NDArray[np.int64]:
        """Indices of the examples of a split, int64, ascending."""
        return np.array([i for i, e in enumerate(self.dataset.examples) if e.file.split == split], np.int64)

    def folder_counts(self, split: Split) -> dict[str, int]:
        """Number of images of each folder in a split, before merging."""
        counts = Counter(dict.fromkeys(sorted(self.dataset.found), 0))
        counts.update(e.file.label for e in self.dataset.examples if e.file.split == split)
        return dict(counts)

    def few_test_images(self) -> str:
        """Name the classes with so few test images that their recall means little, with counts; empty if none has.

        It is also empty if there are no test images at all.
        """
        test = self.indices("test")
        few = [(name, count) for name, count in self.class_counts(test).items() if count < _FEW_TEST_IMAGES]
        return ", ".join(f"{name} ({count})" for name, count in few) if len(test) else ""

    def class_counts(self, examples: NDArray[np.int64]) -> dict[str, int]:
        """Number of each class among some examples, int64 [K], repetitions counted."""
        counts = np.bincount(self.targets[examples], minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def epoch_counts(self) -> dict[str, int]:
        """Number of images of each class that an epoch trains on, including repetitions."""
        return self.class_counts(self.epoch_examples)


def make_plan(config: DataConfig, quiet: bool = False) -> Plan:
    """Read the dataset and decide on splits, merges and balance, in this order.

    Duplicates and near-duplicates are found before splitting, and images are repeated after it, so that no image is in
    two splits.

    Raises:
        DatasetError: there is nothing to train on, or there are fewer than two classes.
        CacheError: decoded images cannot be written.
    """
    dataset = load(config, quiet)
    files = [example.file for example in dataset.examples]
    labels, given = [file.label for file in files], [file.split for file in files]
    splits = assign_splits(labels, given, dataset.groups.tolist(), config.val, config.test, config.seed)
    dataset = with_splits(dataset, splits)
    counts = Counter(file.label for file, split in zip(files, splits, strict=True) if split == "train")
    merges = plan_merges(counts, config.min_images, config.others, config.merge)
    class_names = tuple(sorted(merge_counts(counts, merges)))
    if len(class_names) < 2:
        raise DatasetError(_too_few(dataset, class_names))
    _check_known(dataset, merges, class_names)
    targets = np.array([class_names.index(merges.get(file.label, file.label)) for file in files], np.int64)
    train = np.flatnonzero(np.array(splits) == "train")
    chosen = balance(
        [class_names[target] for target in targets[train]],
        config.max_ratio,
        config.balance == "oversample",
        config.seed,
    )
    epoch = train[chosen]
    sizes = np.bincount(targets[epoch], minlength=len(class_names))
    weights = class_weights(sizes) if config.balance == "weights" else np.ones(len(class_names), np.float32)
    return Plan(dataset, merges, class_names, targets, epoch, weights)


def _too_few(dataset: Dataset, class_names: tuple[str, ...]) -> str:
    message = f"{dataset.root} has only one class ({', '.join(class_names) or 'none'}):"
    unusable = sorted(set(dataset.found) - {example.file.label for example in dataset.examples})
    if not unusable:
        return f"{message} a classifier needs images of at least two classes, each in its own folder"
    reasons = [str(error) for file, error in dataset.corrupt if file.label == unusable[0]]
    reasons += [
        f"{example.file.path}: the same image is in the folder of another label"
        for group in dataset.conflicts
        for example in group
        if example.file.label == unusable[0]
    ]
    return f"{message} none of the images in {unusable[0]} can be used, the first because: {reasons[0]}; fix them"


def _check_known(dataset: Dataset, merges: Mapping[str, str], class_names: tuple[str, ...]) -> None:
    for example in dataset.examples:
        label = example.file.label
        if merges.get(label, label) not in class_names:
            raise DatasetError(
                f"{example.file.path}: no training image has the label {label}: add some, or remove this"
            )
