"""Test images that a trained model takes for another class."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from scipy.special import softmax

from classify_serving.exchange.issue_types import CONFUSION
from classify_training.audit.findings import Finding
from classify_training.data.plan import Plan
from classify_training.evaluation.evaluate import Evaluation

_TOP: Final = 5


def find_misses(evaluation: Evaluation, plan: Plan) -> list[Finding]:
    """The misclassified test images, the surest first; the labels are classes, after small ones are merged."""
    return sorted(_misses(evaluation, plan), key=lambda miss: -(miss.probability or 0))


def _misses(evaluation: Evaluation, plan: Plan) -> Iterator[Finding]:
    names = plan.class_names
    wrong = np.flatnonzero(evaluation.predicted != evaluation.targets)
    probabilities = softmax(evaluation.logits[wrong].astype(np.float64) / evaluation.temperature, axis=-1)
    for place, each in zip(wrong.tolist(), probabilities, strict=True):
        index, true, predicted = (
            int(numbers[place]) for numbers in (evaluation.indices, evaluation.targets, evaluation.predicted)
        )
        example = plan.dataset.examples[index]
        order = np.argsort(-each, kind="stable").tolist()[:_TOP]
        yield Finding(
            file=example.file,
            digest=example.digest,
            place=index,
            issue=CONFUSION,
            reason=f"the model takes it for {names[predicted]}: {each[predicted]:.1%}, {names[true]}: {each[true]:.1%}",
            suggested=names[predicted],
            top=tuple((names[number], float(each[number])) for number in order),
            doubt=float(np.log(each[predicted]) - np.log(max(each[true], np.finfo(np.float64).tiny))),
        )
