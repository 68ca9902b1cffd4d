"""How many labels that are wrong on purpose the review surfaces, and what mending them is worth: `make bench-mistakes`.

Everything goes through the commands themselves. A person is played by the truth: of the first rows of `review.csv`,
planted mistakes are relabelled, all others kept.
"""

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from classify_serving.contract.folders import walk_images
from classify_serving.exchange.review import ReviewRow, read_review, write_review
from classify_serving.files import sha256_of

TRAIN = str(Path(sys.executable).with_name("classify-train"))
CLIENT = str(Path(sys.executable).with_name("classify-client"))


@dataclass(frozen=True)
class Bench:
    """One dataset and how it is trained on.

    Attributes:
        folder: for everything that is made.
        labelled: the part of the dataset that is trained on, a folder for each label.
        held_out: images with true labels to mark models on.
        options: of `classify-train train`.
        planted: SHA-256 -> true label of the files that are filed wrongly.
    """

    folder: Path
    labelled: Path
    held_out: Path
    options: Sequence[str]
    planted: Mapping[str, str]

    def train(self, dataset: Path, name: str) -> Path:
        """Train on a dataset, and give the model's folder."""
        model = self.folder / "models" / name
        start = time.monotonic()
        run(TRAIN, "train", dataset, "--output", model, "--runs", self.folder / "runs", "--quiet", *self.options)
        print(f"trained {name} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        return model

    def review(self, model: Path, images: Path, name: str) -> list[ReviewRow]:
        """The review of a folder of images by a model."""
        self.classify(model, images, name)
        path = self.folder / name / "review.csv"
        return read_review(path) if path.exists() else []

    def classify(self, model: Path, images: Path, name: str) -> dict[str, float]:
        """The summary of a run of the client."""
        output = self.folder / name
        run(CLIENT, images, "--local-server", model, "--output", output, "--quiet", "--max-failures", "1000000")
        summary: dict[str, float] = json.loads((output / "summary.json").read_text())
        return summary

    def accuracy(self, model: Path, name: str) -> str:
        """On the held-out images."""
        summary = self.classify(model, self.held_out, f"held-out-{name}")
        return f"{summary['accuracy']:.1%} ({summary['correct']} of {summary['labelled']})"

    def mend(self, rows: Sequence[ReviewRow], first: int, name: str) -> Path:
        """A copy of the dataset in which a person has dealt with the first rows of a review."""
        dataset = self.folder / f"mended-{name}"
        shutil.copytree(self.labelled, dataset)
        decided = [replace(row, action=self._decision(row), file="") for row in rows[:first]]
        write_review(self.folder / f"{name}.csv", decided)
        run(TRAIN, "apply", self.folder / f"{name}.csv", "--dataset", dataset, "--yes", "--quiet")
        return dataset

    def _decision(self, row: ReviewRow) -> str:
        return f"relabel:{self.planted[row.sha256]}" if row.sha256 in self.planted else "keep"


def run(*command: str | Path) -> None:
    """Run a command; it must succeed."""
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def plant(labelled: Path, share: float, seed: int) -> dict[str, str]:
    """Move a share of the files into another label's folder; gives SHA-256 -> true label of those."""
    chance = random.Random(seed)
    labels = sorted(path for path in labelled.iterdir() if path.is_dir())
    files = list(walk_images(labelled))
    planted = {}
    for path in chance.sample(files, round(share * len(files))):
        target = chance.choice([label for label in labels if label != path.parent])
        digest = sha256_of(path)
        planted[digest] = path.parent.name
        path.rename(target / f"{digest[:12]}{path.suffix}")
    return planted


def halves(labelled: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Each half of a dataset with the other one, as folders; which half a file is in depends on its content."""
    parts = [folder / "half-0", folder / "half-1"]
    for path in walk_images(labelled):
        half = parts[hashlib.sha256(path.read_bytes()).digest()[0] % 2]
        target = half / path.relative_to(labelled)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    yield parts[0], parts[1]
    yield parts[1], parts[0]


def in_order_of_doubt(rows: Sequence[ReviewRow]) -> list[ReviewRow]:
    """Rows of several reviews in the order that one would have: doubtful labels first, the surest mistake first."""
    return sorted(rows, key=lambda row: (row.issue_type != "wrong-label", -float(row.probability)))


def surfaced(rows: Sequence[ReviewRow], planted: Mapping[str, str]) -> str:
    """How many planted mistakes are among the first rows: as many as there are mistakes, twice that, and all."""
    count = len(planted)
    found = [sum(row.sha256 in planted for row in rows[:first]) for first in (count, 2 * count, len(rows))]
    doubted = [row for row in rows if row.issue_type == "wrong-label"]
    right = sum(row.sha256 in planted for row in doubted)
    return f"{found[0]} | {found[1]} | {found[2]} of {len(rows)} | {right} of {len(doubted)}"


def measure(bench: Bench) -> None:
    """Print two tables in Markdown."""
    count = len(bench.planted)
    noisy = bench.train(bench.labelled, "noisy")
    same = bench.review(noisy, bench.labelled, "same")
    cross = []
    for number, (half, other) in enumerate(halves(bench.labelled, bench.folder)):
        cross += bench.review(bench.train(half, f"half-{number}"), other, f"cross-{number}")
    cross = in_order_of_doubt(cross)
    print(f"\n{count} labels planted.\n")
    print(f"| classified by | in the first {count} | in the first {2 * count} | in the review | likely wrong label |")
    print("|---|---|---|---|---|")
    print(f"| the model that was trained on them | {surfaced(same, bench.planted)} |")
    print(f"| each half by a model of the other half | {surfaced(cross, bench.planted)} |", flush=True)
    print("\n| trained on | right on the held-out images |\n|---|---|")
    print(f"| the dataset with planted mistakes | {bench.accuracy(noisy, 'noisy')} |", flush=True)
    for name, rows, how in (("same", same, "the same model"), ("cross", cross, "halves")):
        model = bench.train(bench.mend(rows, 2 * count, name), f"mended-{name}")
        print(f"| after one turn, the first {2 * count} by {how} | {bench.accuracy(model, name)} |", flush=True)
    everything = [ReviewRow(path="", label="", sha256=digest) for digest in bench.planted]
    clean = bench.train(bench.mend(everything, count, "clean"), "clean")
    print(f"| the dataset without a mistake | {bench.accuracy(clean, 'clean')} |", flush=True)


def main() -> None:
    """Plant mistakes in a copy of a dataset, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path, help="a folder for each label; default: the sample of digits")
    parser.add_argument("--held-out", type=Path, help="images to mark on, in folders of their labels")
    parser.add_argument("--share", type=float, default=0.05, help="of labels that are made wrong")
    parser.add_argument("--seed", type=int, default=1)
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.dataset is None:
            run(TRAIN, "sample", folder / "dataset", "--images", folder / "images")
            options = [*["--image-size", "32", "--weights", "random", "--no-flip"], *options]
        else:
            shutil.copytree(given.dataset, folder / "dataset")
        planted = plant(folder / "dataset", given.share, given.seed)
        held_out = given.held_out or folder / "images"
        measure(Bench(folder, folder / "dataset", held_out, options, planted))


if __name__ == "__main__":
    main()
