"""How well wrong labels are found before any training: `make bench-audit`.

Labels are made wrong at random in a copy of the labels of a dataset, over several seeds and shares; the features, which
do not depend on labels, are computed once. Printed as Markdown; docs/benchmarks.md says what came out, where and when.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from classify_serving.tensorflow_import import import_tensorflow
from classify_training.audit.label_errors import LabelScores, score_labels, self_test, with_wrong_labels
from classify_training.audit.out_of_fold import ImageSet
from classify_training.config import DataConfig


@dataclass(frozen=True)
class Outcome:
    """What one audit found.

    Attributes:
        planted: number N of labels that were made wrong.
        first, second: how many of them are among the first N and the first 2 N images.
        marked: number of labels that are called likely wrong.
        right: how many of these were made wrong.
        is_weak: whether the audit calls itself too weak.
        seconds: for everything but the features.
    """

    planted: int
    first: int
    second: int
    marked: int
    right: int
    is_weak: bool
    seconds: float


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--weights", required=True, help="Weights of VGG16(include_top=False).")
@click.option("--image-size", type=click.IntRange(32), default=32)
@click.option("--flip/--no-flip", default=True)
@click.option("--seeds", type=click.IntRange(1), default=8)
@click.option("--share", "shares", multiple=True, type=float, default=(0.0, 0.05, 0.1, 0.2))
def main(dataset: Path, weights: str, image_size: int, flip: bool, seeds: int, shares: tuple[float, ...]) -> None:
    """Plant mistakes and count how many come first."""
    import_tensorflow()
    from classify_training.audit.audit import AuditConfig, audit, weakness

    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(dataset=dataset, image_size=image_size, cache=Path(folder))
        start = time.monotonic()
        found = audit(AuditConfig(data=data, weights=weights, flip=flip, precision="auto", quiet=True))
    images = found.images
    print(f"{len(images.labels)} images, {images.classes} labels; one audit: {time.monotonic() - start:.0f} s\n")
    print("| wrong | in the first N | in the first 2 N | fewest in 2 N | likely wrong | of these wrong | weak | s |")
    print("|---|---|---|---|---|---|---|---|")
    for share in shares:
        outcomes = []
        for seed in range(1, (seeds if share else 1) + 1):
            begun = time.monotonic()
            wrong, scores = _judge_planted(images, share, seed)
            test = self_test(images=replace(images, labels=scores.labels), scores=scores, seed=seed)
            is_weak = bool(weakness(len(images.labels), scores.accuracy, test))
            outcomes.append(_outcome(wrong, scores, is_weak, time.monotonic() - begun))
        _print_row(share, outcomes)


def _judge_planted(images: ImageSet, share: float, seed: int) -> tuple[NDArray[np.bool_], LabelScores]:
    """Which labels were made wrong, bool [N], and what the audit thinks of them."""
    rng = np.random.default_rng(seed)
    count = round(share * len(images.labels))
    places = rng.choice(len(images.labels), count, replace=False)
    wrong = np.zeros(len(images.labels), np.bool_)
    wrong[places] = True
    return wrong, score_labels(with_wrong_labels(images, places, rng), seed)


def _outcome(wrong: NDArray[np.bool_], scores: LabelScores, is_weak: bool, seconds: float) -> Outcome:
    order, count, marked = np.argsort(-scores.doubts, kind="stable"), int(wrong.sum()), scores.is_likely_wrong
    return Outcome(
        planted=count,
        first=int(wrong[order[:count]].sum()),
        second=int(wrong[order[: 2 * count]].sum()),
        marked=int(marked.sum()),
        right=int((marked & wrong).sum()),
        is_weak=is_weak,
        seconds=seconds,
    )


def _print_row(share: float, outcomes: list[Outcome]) -> None:
    planted = max(1, outcomes[0].planted)
    cells = [
        f"{share:.0%}, N = {outcomes[0].planted}",
        f"{statistics.mean(each.first for each in outcomes) / planted:.0%}",
        f"{statistics.mean(each.second for each in outcomes) / planted:.0%}",
        f"{min(each.second for each in outcomes)}",
        f"{statistics.mean(each.marked for each in outcomes):.0f}",
        f"{sum(each.right for each in outcomes) / max(1, sum(each.marked for each in outcomes)):.0%}",
        f"{sum(each.is_weak for each in outcomes)} of {len(outcomes)}",
        f"{statistics.median(each.seconds for each in outcomes):.0f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
