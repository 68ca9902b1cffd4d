"""How well wrong labels are found before any training: `make bench-audit`.

Labels are made wrong at random in a copy of the labels of a dataset, over several seeds and shares; the features, which
do not depend on labels, are computed once. Printed as Markdown; docs/benchmarks.md says what came out, where and when.
"""

import statistics
import subprocess
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
from classify_training.config import AuditConfig, DataConfig


@dataclass(frozen=True)
class Outcome:
    """What one audit found.

    Attributes:
        planted: number N of labels that were made wrong.
        first, second: how many of them are among the first N and the first 2 N images.
        in_turns: how many are among 2 N decided images if the dataset is audited again between them.
        peer: the same two counts for the order that cleanlab gives the same probabilities; None if it was not asked.
        marked: number of labels that are called likely wrong.
        right: how many of these were made wrong.
        is_weak: whether the audit calls itself too weak.
        seconds: for everything but the features.
    """

    planted: int
    first: int
    second: int
    in_turns: int
    peer: tuple[int, int] | None
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
@click.option("--cleanlab", help="A Python interpreter that has cleanlab, to compare with its order.")
@click.option("--audits", type=click.IntRange(1), default=2, help="For the column that deals decisions over audits.")
@click.option("--share", "shares", multiple=True, type=float, default=(0.0, 0.05, 0.1, 0.2))
def main(
    dataset: Path,
    weights: str,
    image_size: int,
    flip: bool,
    seeds: int,
    cleanlab: str | None,
    audits: int,
    shares: tuple[float, ...],
) -> None:
    """Plant mistakes and count how many come first."""
    import_tensorflow()
    from classify_training.audit.audit import audit, weakness

    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(dataset=dataset, image_size=image_size, cache=Path(folder))
        start = time.monotonic()
        found = audit(AuditConfig(data=data, weights=weights, flip=flip, precision="auto", quiet=True))
    images = found.images
    print(f"{len(images.labels)} images, {images.classes} labels; one audit: {time.monotonic() - start:.0f} s\n")
    print(
        f"| wrong | in the first N | in the first 2 N | fewest | in 2 N dealt over {audits} audits | cleanlab |"
        " likely wrong | of these wrong | weak | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for share in shares:
        outcomes = []
        for seed in range(1, (seeds if share else 1) + 1):
            begun = time.monotonic()
            wrong, scores = _judge_planted(images, share, seed)
            test = self_test(images=replace(images, labels=scores.labels), scores=scores, seed=seed)
            is_weak = bool(weakness(len(images.labels), scores.accuracy, test))
            seconds = time.monotonic() - begun
            in_turns = _found_in_turns(images, wrong, scores, seed, audits)
            peer = _order_by_cleanlab(cleanlab, scores) if cleanlab else None
            outcomes.append(_outcome(wrong, scores, in_turns, peer, is_weak, seconds))
        _print_row(share, outcomes)


def _judge_planted(images: ImageSet, share: float, seed: int) -> tuple[NDArray[np.bool_], LabelScores]:
    """Which labels were made wrong, bool [N], and what the audit thinks of them."""
    rng = np.random.default_rng(seed)
    count = round(share * len(images.labels))
    places = rng.choice(len(images.labels), count, replace=False)
    wrong = np.zeros(len(images.labels), np.bool_)
    wrong[places] = True
    return wrong, score_labels(with_wrong_labels(images, places, rng), seed)


def _order_by_cleanlab(python: str, scores: LabelScores) -> NDArray[np.int64]:
    """The order of suspicion by `self_confidence`, which is the default of cleanlab and its better one here."""
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "given.npz", Path(folder) / "order.npy"
        np.savez(given, labels=scores.labels, probabilities=scores.probabilities)
        subprocess.run([python, "-c", _CLEANLAB, str(given), str(answer)], check=True)
        order: NDArray[np.int64] = np.load(answer)
        return order


_CLEANLAB = """
import sys, numpy as np
from cleanlab.rank import get_label_quality_scores
given = np.load(sys.argv[1])
known = given["labels"] >= 0
quality = np.full(len(known), np.inf)
probabilities = given["probabilities"][known]
probabilities /= probabilities.sum(axis=1, keepdims=True)
quality[known] = get_label_quality_scores(given["labels"][known], probabilities, method="self_confidence")
np.save(sys.argv[2], np.argsort(quality, kind="stable"))
"""


def _found_in_turns(images: ImageSet, wrong: NDArray[np.bool_], scores: LabelScores, seed: int, audits: int) -> int:
    """How many wrong labels a person finds in 2 N decisions, if every audit is of the labels corrected so far.

    Args:
        images: with the true labels.
        wrong: bool [N], which labels were made wrong.
        scores: of the first audit.
        seed: of the folds.
        audits: over which the decisions are dealt.
    """
    decided = np.zeros(len(wrong), np.bool_)
    for audit in range(audits):
        if audit:
            corrected = np.where(decided, images.labels, scores.labels)
            scores = score_labels(replace(images, labels=corrected), seed)
        order = np.argsort(-np.where(decided, -np.inf, scores.doubts), kind="stable")
        decided[order[: 2 * int(wrong.sum()) // audits]] = True
    return int((decided & wrong).sum())


def _outcome(
    wrong: NDArray[np.bool_],
    scores: LabelScores,
    in_turns: int,
    peer: NDArray[np.int64] | None,
    is_weak: bool,
    seconds: float,
) -> Outcome:
    order, count, marked = np.argsort(-scores.doubts, kind="stable"), int(wrong.sum()), scores.is_likely_wrong

    def found(order: NDArray[np.int64]) -> tuple[int, int]:
        return int(wrong[order[:count]].sum()), int(wrong[order[: 2 * count]].sum())

    first, second = found(order)
    return Outcome(
        planted=count,
        first=first,
        second=second,
        in_turns=in_turns,
        peer=None if peer is None else found(peer),
        marked=int(marked.sum()),
        right=int((marked & wrong).sum()),
        is_weak=is_weak,
        seconds=seconds,
    )


def _print_row(share: float, outcomes: list[Outcome]) -> None:
    planted = max(1, outcomes[0].planted)
    peers = [each.peer for each in outcomes if each.peer]
    cells = [
        f"{share:.0%}, N = {outcomes[0].planted}",
        f"{statistics.mean(each.first for each in outcomes) / planted:.0%}",
        f"{statistics.mean(each.second for each in outcomes) / planted:.0%}",
        f"{min(each.second for each in outcomes)}",
        f"{statistics.mean(each.in_turns for each in outcomes) / planted:.0%}",
        " / ".join(f"{statistics.mean(found) / planted:.0%}" for found in zip(*peers, strict=True)) or "-",
        f"{statistics.mean(each.marked for each in outcomes):.0f}",
        f"{sum(each.right for each in outcomes) / max(1, sum(each.marked for each in outcomes)):.0%}",
        f"{sum(each.is_weak for each in outcomes)} of {len(outcomes)}",
        f"{statistics.median(each.seconds for each in outcomes):.0f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
