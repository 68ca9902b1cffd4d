"""Accuracy on images that the model was trained on, apart from accuracy on new ones."""

from dataclasses import dataclass, field
from typing import Any

from classify_client.results.metrics import wilson_interval
from classify_client.results.reader import Item
from classify_serving.exchange.train_manifest import TrainManifest


@dataclass
class SubsetAccuracy:
    """Counts of a subset of the images."""

    images: int = 0
    labelled: int = 0
    correct: int = 0

    def add(self, item: Item) -> None:
        """Count one image."""
        self.images += 1
        self.labelled += item.row.is_labelled
        self.correct += item.row.is_labelled and not item.row.is_miss

    def merge(self, other: "SubsetAccuracy") -> None:
        """Add the counts of other images."""
        self.images += other.images
        self.labelled += other.labelled
        self.correct += other.correct

    def summary(self) -> dict[str, Any]:
        """For `summary.json`: counts, accuracy in 0-1 and its 95% interval, both None without labels."""
        return {
            "images": self.images,
            "labelled": self.labelled,
            "correct": self.correct,
            "accuracy": self.correct / self.labelled if self.labelled else None,
            "accuracy_interval": wilson_interval(self.correct, self.labelled) if self.labelled else None,
        }


@dataclass
class SeenImages:
    """Accuracy on seen and unseen images; accuracy on images that a model was trained on is too high.

    Attributes:
        manifest: what the model was trained on.
        seen: images that it was trained on.
        unseen: the others.
    """

    manifest: TrainManifest
    seen: SubsetAccuracy = field(default_factory=SubsetAccuracy)
    unseen: SubsetAccuracy = field(default_factory=SubsetAccuracy)

    def add(self, item: Item, digest: str) -> None:
        """Count an answered image with this content.

        Images whose original has gone or is in an archive count in neither subset: only the misses among them have
        copies, and these alone would make the model look worse than it is.
        """
        if item.file.is_file():
            (self.seen if self.manifest.is_seen(digest) else self.unseen).add(item)

    def summary(self) -> dict[str, Any]:
        """The entries `seen` and `unseen` of `summary.json`; none if no image was seen."""
        return {"seen": self.seen.summary(), "unseen": self.unseen.summary()} if self.seen.images else {}
