"""End commands at random moments, repeat them, and check their results: `make bench-interruptions`.

Four experiments: `client`, `training` and `apply` are killed (SIGKILL); `signals` sends SIGINT or SIGTERM to a
training. After each interruption the files are checked, and the command is repeated until it ends by itself. Exits with
code 1 if anything was lost, half-written or published twice. Results are in docs/benchmarks.md.
"""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from bench.inference.servers import null_server
from bench.interrupting.commands import BIN, Fault, Goal, Interrupted, busy, check
from bench.interrupting.trainings import kill_training, signal_training
from classify_serving.exchange.review import ReviewRow, write_review
from classify_serving.files import sha256_of


@click.command()
@click.argument("experiments", nargs=-1, type=click.Choice(["client", "training", "signals", "apply"]))
@click.option("--times", default=100, help="Number of interruptions in each experiment.")
@click.option("--load", default=2, help="Number of endless loops that keep the processor busy meanwhile.")
@click.option("--minutes", default=600, help="End each experiment after this time, also with fewer interruptions.")
@click.option("--seed", default=1, help="Seed of the random moments and decisions.")
def main(experiments: tuple[str, ...], times: int, load: int, minutes: int, seed: int) -> None:
    """End commands at random moments: EXPERIMENTS, or all of them."""
    functions: dict[str, Callable[[Path, Goal, random.Random], Counter[str]]] = {
        "client": kill_client, "training": kill_training, "signals": signal_training, "apply": kill_apply,
    }  # fmt: skip
    for name in experiments or functions:
        with tempfile.TemporaryDirectory() as folder, busy(load):
            start = time.monotonic()
            try:
                outcomes = functions[name](Path(folder), Goal(times, start + 60 * minutes), random.Random(seed))
            except Fault as fault:
                kept = Path(tempfile.mkdtemp(prefix="interruptions-"))
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                sys.exit(f"{name}: {fault} (files: {kept})")
            click.echo(f"{name}, {time.monotonic() - start:.0f} s")
            for outcome, count in sorted(outcomes.items()):
                click.echo(f"  {count:4d}  {outcome}")


def kill_client(folder: Path, goal: Goal, chance: random.Random) -> Counter[str]:
    """Kill runs of the client, each until it completes; results must equal those of a run that was left alone."""
    labels = ("class 0", "class 1")
    pixels = np.random.default_rng(1).integers(0, 256, (1500, 16, 16, 3), np.uint8)
    for label in labels:
        (folder / "images" / label).mkdir(parents=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / labels[number % 30 == 0] / f"{number}.png")
    outcomes: Counter[str] = Counter()
    with null_server(16) as address:
        arguments = ["images", "--model", "bench", "--server", address, "--batch-size", "16"]
        command = [str(BIN / "classify-client"), *arguments, "--output"]
        start = time.monotonic()
        subprocess.run([*command, "whole"], cwd=folder, check=True, capture_output=True)
        seconds = time.monotonic() - start
        expected = client_results(folder / "whole")
        while not goal.is_reached(outcomes["kills"]):
            shutil.rmtree(folder / "killed", ignore_errors=True)
            while True:
                run = Interrupted(
                    [*command, "killed"], folder, lambda output: True, chance.uniform(0, seconds * 0.9), signal.SIGKILL
                )
                if run.seconds is None:
                    check(run.returncode == 0, f"a run that was not killed ended with {run.returncode}: {run.output}")
                    break
                outcomes["kills"] += 1
            check(client_results(folder / "killed") == expected, "a resumed run has other results")
            outcomes["runs completed, equal to the undisturbed one"] += 1
    return outcomes


def client_results(folder: Path) -> dict[str, Any]:
    """All that must not depend on interruptions: rows in their order, misses, counts, and which files exist."""
    with (folder / "predictions.csv").open(newline="") as file:
        rows = [(row["path"], row["predicted"], row["probability"], row["error"]) for row in csv.DictReader(file)]
    summary = json.loads((folder / "summary.json").read_bytes())
    return {
        "rows": rows,
        "misses": {path.name: sha256_of(path) for path in (folder / "miss").iterdir()},
        "counts": {name: summary.get(name) for name in ("images", "answered", "failed", "correct", "accuracy")},
        "files": sorted(path.name for path in folder.iterdir()),
    }


def kill_apply(folder: Path, goal: Goal, chance: random.Random) -> Counter[str]:
    """Kill applies; repeating them must finish them, and undoing them must restore the dataset."""
    outcomes: Counter[str] = Counter()
    command = [str(BIN / "classify-train"), "apply", "review.csv", "--dataset", "data"]

    def has_journal(output: str) -> bool:
        return any((folder / "killed/data/.review").glob("*.json"))

    while not goal.is_reached(outcomes["kills"]):
        shutil.rmtree(folder, ignore_errors=True)
        expected = write_dataset(folder / "whole", chance)
        shutil.copytree(folder / "whole", folder / "killed")
        before = dataset_contents(folder / "whole")
        subprocess.run([*command, "--yes"], cwd=folder / "whole", check=True, capture_output=True)
        check(dataset_contents(folder / "whole") == expected, "an undisturbed apply made other changes")
        # Renaming it to its final name is the last change, and keeps the time at which it was written.
        status = next((folder / "whole/data/.review").glob("*.done.json")).stat()
        delay = chance.uniform(0, status.st_ctime - status.st_mtime)
        run = Interrupted([*command, "--yes"], folder / "killed", has_journal, delay, signal.SIGKILL)
        if run.seconds is None:
            check(run.returncode == 0, run.output)
            continue
        outcomes["kills"] += 1
        is_between = dataset_contents(folder / "killed") not in (before, expected)
        outcomes["of these: some files moved and others not"] += is_between
        steps = ("apply",) if chance.random() < 0.5 else ("undo", "apply")
        for step in steps:
            words = [*command, "--undo" if step == "undo" else "--yes"]
            repeated = subprocess.run(words, cwd=folder / "killed", capture_output=True, text=True, check=False)
            check(repeated.returncode == 0, repeated.stderr)
            wanted = before if step == "undo" else expected
            check(dataset_contents(folder / "killed") == wanted, f"the dataset is wrong after {step}")
        outcomes[f"whole after {' and '.join(steps)}"] += 1
    return outcomes


def write_dataset(folder: Path, chance: random.Random) -> Counter[tuple[bytes, str]]:
    """Write data/ with 600 images, a third of them copies, and review.csv; gives the contents that must result."""
    labels = ("cat", "dog", "fox")
    expected: Counter[tuple[bytes, str]] = Counter()
    rows = []
    for number in range(400):
        content = str(number).encode()
        copies = [(label, f"{label}/{number}.png") for label in chance.sample(labels, chance.choice([1, 1, 2]))]
        right = chance.choice(labels)
        decided = chance.random() < 0.8
        holders = set()
        for label, name in copies:
            path = folder / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            action = ""
            if decided and label == right:
                action = "keep"
            elif decided:
                action = chance.choice([f"relabel:{right}", "delete"]) if len(copies) == 1 else f"relabel:{right}"
            if action != "delete":
                holders.add(right if decided else label)
            rows.append(ReviewRow(path=name, label=label, action=action, sha256=sha256_of(path), file=str(path)))
        expected.update((content, holder) for holder in holders)
    write_review(folder / "review.csv", rows)
    return expected


def dataset_contents(folder: Path) -> Counter[tuple[bytes, str]]:
    """How often each content lies in each class."""
    paths = (path for path in (folder / "data").rglob("*.png") if ".review" not in path.parts)
    return Counter((path.read_bytes(), path.parent.name) for path in paths)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
