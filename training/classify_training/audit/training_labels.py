"""What a training finds out about the labels of its images, from features that it computes anyway."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from classify_serving.exchange.label_scores import LabelScore, label_scores_csv
from classify_training.audit.audit import weakness
from classify_training.audit.findings import JudgedDataset
from classify_training.audit.label_errors import score_labels, self_test
from classify_training.audit.out_of_fold import ImageSet
from classify_training.audit.outliers import outliers
from classify_training.audit.similar_images import SimilarImages
from classify_training.data.batches import batches
from classify_training.data.plan import Plan
from classify_training.evaluation.frozen_features import FrozenFeatures
from classify_training.progress import stage

_BATCH: Final = 64


@dataclass(frozen=True)
class TrainingLabels:
    """What out-of-fold models think of the labels of a training's images.

    Attributes:
        judged: all images of the training, in its order.
        images: their features.
    """

    judged: JudgedDataset
    images: ImageSet

    @property
    def similar(self) -> SimilarImages:
        """Images to compare doubtful ones with."""
        return SimilarImages(self.judged, self.images)

    def csv(self) -> bytes:
        """The content of `LABEL_SCORES_FILE`."""
        judged, scores = self.judged, self.judged.scores
        found = zip(
            judged.dataset.examples,
            scores.suggested.tolist(),
            scores.doubts.tolist(),
            scores.is_likely_wrong.tolist(),
            strict=True,
        )
        return label_scores_csv(
            (
                (example.digest, example.file.label),
                LabelScore(judged.labels[suggested], doubt, is_likely_wrong and not judged.weakness),
            )
            for example, suggested, doubt, is_likely_wrong in found
        )


def judge_training_labels(
    features: FrozenFeatures, plan: Plan, seed: int, quiet: bool = False
) -> TrainingLabels | None:
    """Judge the labels of all images, before small classes are merged, without the features of mirror images.

    Args:
        features: of the network before it is trained.
        plan: what is trained on.
        seed: of the folds.
        quiet: whether to show no progress.

    Returns:
        What models think of them; None if the features are of a part of the images only.
    """
    if len(features.examples) < len(plan.targets):
        return None
    dataset, order = plan.dataset, np.argsort(features.examples)
    names = tuple(sorted({example.file.label for example in dataset.examples}))
    labels = np.array([names.index(example.file.label) for example in dataset.examples])
    by_stage = {name: means[order][None] for name, means in features.means.items()}
    images = ImageSet(by_stage, labels, dataset.groups, len(names))
    with stage("Judging the labels", quiet):
        scores = score_labels(images, seed)
        weak = weakness(len(labels), scores.accuracy, self_test(images, scores, seed))
        unlike = outliers(dataset.pixels(batch) for batch in batches(np.arange(len(labels)), _BATCH))
    return TrainingLabels(JudgedDataset(dataset, names, scores, weak, unlike), images)
