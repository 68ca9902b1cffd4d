"""What a training finds out about the labels of its images, from features that it computes anyway."""

import numpy as np

from classify_serving.exchange.label_scores import LabelScore, label_scores_csv
from classify_training.audit.audit import weakness
from classify_training.audit.label_errors import score_labels, self_test
from classify_training.audit.out_of_fold import ImageSet
from classify_training.data.plan import Plan
from classify_training.evaluation.frozen_features import FrozenFeatures
from classify_training.progress import stage


def training_scores(features: FrozenFeatures, plan: Plan, seed: int, quiet: bool = False) -> bytes | None:
    """Judge the labels of all images, before small classes are merged, without the features of mirror images.

    Args:
        features: of the network before it is trained.
        plan: what is trained on.
        seed: of the folds.
        quiet: whether to show no progress.

    Returns:
        The content of `LABEL_SCORES_FILE`; None if the features are of a part of the images only.
    """
    places = features.examples
    if len(places) < len(plan.targets):
        return None
    examples = [plan.dataset.examples[place] for place in places.tolist()]
    names = sorted({example.file.label for example in examples})
    labels = np.array([names.index(example.file.label) for example in examples])
    by_stage = {name: means[None] for name, means in features.means.items()}
    images = ImageSet(by_stage, labels, plan.dataset.groups[places], len(names))
    with stage("Judging the labels", quiet):
        scores = score_labels(images, seed)
        is_weak = bool(weakness(len(labels), scores.accuracy, self_test(images, scores, seed)))
    found = zip(examples, scores.suggested.tolist(), scores.doubts.tolist(), scores.is_likely_wrong, strict=True)
    return label_scores_csv(
        (
            (example.digest, example.file.label),
            LabelScore(names[suggested], doubt, bool(is_likely_wrong) and not is_weak),
        )
        for example, suggested, doubt, is_likely_wrong in found
    )
