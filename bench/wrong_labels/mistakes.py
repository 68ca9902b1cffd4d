"""What it is worth to look for wrong labels, and to correct them: `make bench-mistakes`.

Files are moved into wrong folders at random. Then everything goes through the commands themselves: an audit, a
training, a run of the client on the training images, decisions, `apply`, a training on what is left. A person is played
by the truth: of the first 2 N images of the audit's review, those in wrong folders are relabelled, all others kept. In
further turns the corrected dataset is audited, and the first N images are decided.
Printed as Markdown; docs/benchmarks.md says what came out, where and when.
"""

import csv
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from PIL import Image
from sklearn.datasets import load_digits

from bench.wrong_labels.noisy_dataset import CLIENT, TRAIN, network_options, plant, run
from classify_serving.contract.folders import walk_images
from classify_serving.exchange.review import ReviewRow, read_review, write_review
from classify_serving.files import sha256_of

HELD_OUT_DIGITS = 800


@dataclass(frozen=True)
class Outcome:
    """What came of one turn.

    Attributes:
        planted: number N of files in wrong folders.
        by_audit: how many of them are among the first N and the first 2 N images of the audit's review.
        by_misses: the same for the misses of the model that was trained on them, the surest first.
        noisy, clean: accuracy on the held-out images, 0-1, of models that were trained with and without the wrong
            labels.
        corrected: the same after each turn of corrections.
    """

    planted: int
    by_audit: tuple[int, int]
    by_misses: tuple[int, int]
    noisy: float
    corrected: Sequence[float]
    clean: float


@dataclass(frozen=True)
class Bench:
    """One dataset and how it is trained on.

    Attributes:
        folder: for everything that is made.
        dataset: all labels are true.
        held_out: images with true labels to mark models on.
        turns: number of turns of corrections.
        audit_options: of `classify-train audit`.
        options: more options of `classify-train train`.
    """

    folder: Path
    dataset: Path
    held_out: Path
    turns: int
    audit_options: Sequence[str]
    options: Sequence[str]

    def accuracy(self, dataset: Path, name: str, seed: int) -> float:
        """Train on a dataset, and classify the held-out images."""
        start, model = time.monotonic(), self._model(name)
        how = (*self.audit_options, *self.options, "--seed", str(seed))
        run(TRAIN, "train", dataset, "--output", model, "--runs", self.folder / "runs", "--quiet", *how)
        output = self.classify(self.held_out, name)
        summary = json.loads((output / "summary.json").read_text())
        took = time.monotonic() - start
        right = f"{summary['correct']} of {summary['labelled']}"
        print(f"{name}: {right} right after {took:.0f} s", file=sys.stderr, flush=True)
        return float(summary["accuracy"])

    def classify(self, images: Path, name: str) -> Path:
        """Classify a folder of images with a model; gives the results."""
        output = Path(tempfile.mkdtemp(dir=self.folder)) / "classified"
        run(CLIENT, images, "--local-server", self._model(name), "--output", output, "--quiet")
        return output

    def _model(self, name: str) -> Path:
        return self.folder / "models" / name

    def turn(self, share: float, seed: int, clean: float) -> Outcome:
        """Make labels wrong, and train; then find them, correct them, and train again, in each turn."""
        name = f"{share:.0%} seed {seed}".replace(" ", "-").replace("%", "")
        noisy = self.folder / f"noisy-{name}"
        shutil.copytree(self.dataset, noisy)
        planted = plant(noisy, share, seed)
        rows = self._audit(noisy)
        of_noisy = self.accuracy(noisy, f"noisy-{name}", seed)
        misses = _surest_misses(self.classify(noisy, f"noisy-{name}"))
        by_path = {str(path.relative_to(noisy)) for path in walk_images(noisy) if sha256_of(path) in planted}
        found = _found([row.path for row in rows], by_path)
        dataset, corrected = noisy, []
        for turn in range(1, self.turns + 1):
            decided = rows[: 2 * len(planted)] if turn == 1 else self._audit(dataset)[: len(planted)]
            dataset = _correct(dataset, noisy.with_name(f"corrected-{turn}-{name}"), decided, planted)
            corrected.append(self.accuracy(dataset, dataset.name, seed))
        return Outcome(
            planted=len(planted),
            by_audit=found,
            by_misses=_found(misses, by_path),
            noisy=of_noisy,
            corrected=corrected,
            clean=clean,
        )

    def _audit(self, dataset: Path) -> Sequence[ReviewRow]:
        """What an audit finds that is not decided yet, the most suspicious first."""
        audited = Path(tempfile.mkdtemp(dir=self.folder)) / "audited"
        run(TRAIN, "audit", dataset, "--output", audited, "--quiet", *self.audit_options)
        return read_review(audited / "review.csv")


def _found(paths: Sequence[str], planted: set[str]) -> tuple[int, int]:
    count = len(planted)
    return len(planted & set(paths[:count])), len(planted & set(paths[: 2 * count]))


def _surest_misses(results: Path) -> list[str]:
    """Paths of the misses in a folder of results, in the order of the probability of the predicted class."""
    with (results / "predictions.csv").open(newline="", encoding="utf-8") as file:
        misses = [row for row in csv.DictReader(file) if row["correct"] == "false"]
    return [row["path"] for row in sorted(misses, key=lambda row: -float(row["probability"]))]


def _correct(dataset: Path, corrected: Path, rows: Sequence[ReviewRow], planted: Mapping[str, str]) -> Path:
    """A copy of a dataset in which a person has decided about some images of a review."""
    shutil.copytree(dataset, corrected)
    decisions = corrected.with_suffix(".csv")
    write_review(decisions, [replace(row, action=_decision(row, planted), file="") for row in rows])
    run(TRAIN, "apply", decisions, "--dataset", corrected, "--yes", "--quiet")
    return corrected


def _decision(row: ReviewRow, planted: Mapping[str, str]) -> str:
    return f"relabel:{planted[row.sha256]}" if row.sha256 in planted else "keep"


def _digits(folder: Path) -> tuple[Path, Path]:
    """All handwritten digits of scikit-learn, of which some are held out."""
    digits = load_digits()
    order = random.Random(0).sample(range(len(digits.target)), len(digits.target))
    parts = {"digits-held-out": order[:HELD_OUT_DIGITS], "digits": order[HELD_OUT_DIGITS:]}
    for name, numbers in parts.items():
        for number in numbers:
            path = folder / name / str(digits.target[number]) / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray((digits.images[number] * (255 / 16)).round().astype("uint8"))
            grey.resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return folder / "digits", folder / "digits-held-out"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--dataset", type=click.Path(path_type=Path), help="A folder for each label; default: the digits.")
@click.option("--held-out", type=click.Path(path_type=Path), help="Images to mark on, in folders of their labels.")
@click.option("--weights", default="random")
@click.option("--image-size", default=32)
@click.option("--flip/--no-flip", default=False)
@click.option("--seeds", default=3)
@click.option("--first-seed", default=1)
@click.option("--share", "shares", multiple=True, type=float, default=(0.1, 0.2), help="Of labels made wrong.")
@click.option("--turns", type=click.IntRange(1), default=1, help="Of corrections, each with a training after it.")
def main(
    options: tuple[str, ...],
    dataset: Path | None,
    held_out: Path | None,
    weights: str,
    image_size: int,
    flip: bool,
    seeds: int,
    first_seed: int,
    shares: tuple[float, ...],
    turns: int,
) -> None:
    """Measure; OPTIONS are more options of classify-train train."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if dataset is None or held_out is None:
            dataset, held_out = _digits(folder)
        bench = Bench(folder, dataset, held_out, turns, network_options(weights, image_size, flip), options)
        outcomes: dict[float, list[Outcome]] = {share: [] for share in shares}
        for seed in range(first_seed, first_seed + seeds):
            clean = bench.accuracy(dataset, f"clean-seed-{seed}", seed)
            for share in shares:
                outcomes[share].append(bench.turn(share, seed, clean))
                print(outcomes[share][-1], file=sys.stderr, flush=True)
        _print_found(outcomes)
        _print_gain(outcomes)


def _print_found(outcomes: Mapping[float, Sequence[Outcome]]) -> None:
    print("\n| wrong | audit: in the first N | in the first 2 N | misses, surest first: in the first N | in 2 N |")
    print("|---|---|---|---|---|")
    for share, found in outcomes.items():
        planted = sum(each.planted for each in found)
        counts = [
            sum(getattr(each, order)[place] for each in found)
            for order in ("by_audit", "by_misses")
            for place in (0, 1)
        ]  # fmt: skip
        cells = " | ".join(f"{count / planted:.0%}" for count in counts)
        print(f"| {share:.0%}, N = {found[0].planted} | {cells} |")


def _print_gain(outcomes: Mapping[float, Sequence[Outcome]]) -> None:
    print("\n| wrong | turns | with the wrong labels | corrected | no wrong label | won back |")
    print("|---|---|---|---|---|---|")
    for share, found in outcomes.items():
        noisy, clean = (statistics.mean(getattr(each, name) for each in found) for name in ("noisy", "clean"))
        for turn in range(len(found[0].corrected)):
            corrected = statistics.mean(each.corrected[turn] for each in found)
            won = f"{(corrected - noisy) / (clean - noisy):.0%}" if clean > noisy else "nothing was lost"
            print(f"| {share:.0%} | {turn + 1} | {noisy:.1%} | {corrected:.1%} | {clean:.1%} | {won} |")


if __name__ == "__main__":
    main()
