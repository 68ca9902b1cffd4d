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
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from PIL import Image
from servers import null_server

from classify_serving.exchange.review import ReviewRow, write_review
from classify_serving.files import sha256_of

BIN: Final = Path(sys.executable).parent
VERSION_FILES: Final = ("saved_model.pb", "variables/variables.index", "assets.extra/train_manifest.csv")
LONGEST: Final = 300
"""Seconds after which a command counts as hanging."""


class Fault(Exception):
    """Something was lost, half-written or published twice."""


class Interrupted:
    """One execution of a command that was ended from outside.

    Attributes:
        returncode: exit code; negative: the number of the signal that ended the process.
        output: what it wrote to stdout and stderr.
        seconds: time from the signal to the end of the process; None if it ended before the signal.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, begins: Callable[[str], bool], delay: float, number: int
    ) -> None:
        """Start a command, and send a signal `delay` seconds after `begins` is true of its output so far."""
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: list[str] = []
        reader = threading.Thread(target=self._read, args=(process, lines))
        reader.start()
        while not begins("".join(lines)) and process.poll() is None:
            time.sleep(0.002)
        self.seconds: float | None = None
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            start = time.monotonic()
            process.send_signal(number)
            process.wait(LONGEST)
            self.seconds = time.monotonic() - start
        reader.join()
        self.returncode = process.returncode
        self.output = "".join(lines)

    def _read(self, process: "subprocess.Popen[str]", lines: list[str]) -> None:
        for line in process.stdout or ():
            lines.append(line)


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


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep `loops` cores busy within the block."""
    processes = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Goal:
    """When an experiment ends: after a number of interruptions, or at a time of `time.monotonic`."""

    times: int
    deadline: float

    def is_reached(self, times: int) -> bool:
        """Whether the experiment ends after this many interruptions."""
        return times >= self.times or time.monotonic() >= self.deadline


def check(condition: bool, message: str) -> None:
    """Raise Fault with the message unless the condition is true."""
    if not condition:
        raise Fault(message)


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


def kill_training(folder: Path, goal: Goal, chance: random.Random) -> Counter[str]:
    """Kill trainings, each until it completes; each must publish one version, which is whole."""
    training = Training(folder)
    outcomes: Counter[str] = Counter()
    while not goal.is_reached(outcomes["kills"]):
        run = training.interrupted(chance.uniform(0, training.seconds), signal.SIGKILL, outcomes)
        if run.seconds is not None:
            outcomes["kills"] += 1
            outcomes[f"of these: {stage(run.output)}"] += 1
    outcomes["trainings completed"] = training.completed
    return outcomes


def signal_training(folder: Path, goal: Goal, chance: random.Random) -> Counter[str]:
    """Send signals to trainings; they must end with exit code 130, a true message, and nothing lost."""
    training = Training(folder)
    outcomes: Counter[str] = Counter()
    waits: list[float] = []
    while not goal.is_reached(len(waits)):
        number = chance.choice([signal.SIGINT, signal.SIGTERM])
        before = training.versions()
        run = training.interrupted(chance.uniform(0, training.seconds), number, outcomes)
        if run.seconds is None:
            continue
        waits.append(run.seconds)
        if run.returncode == 0:
            outcomes["signals that arrived when the version was already published: exit code 0"] += 1
            continue
        message = run.output.splitlines()[-1]
        check(run.returncode == 130, f"exit code {run.returncode} after a signal: {run.output}")
        check(message.startswith("Interrupted: nothing was published"), f"unknown message: {message}")
        check(training.versions() == before, f"a version was published, but: {message}")
        outcomes["exit code 130 with a true message"] += 1
        outcomes[f"of these: {stage(run.output)}"] += 1
    outcomes["trainings completed"] = training.completed
    outcomes[f"signals; seconds until the end: median {np.median(waits):.1f}, longest {max(waits):.1f}"] = len(waits)
    return outcomes


def stage(output: str) -> str:
    """How far a training had come, by its last line about the work."""
    known = ("head", "fine-tuning")
    lines = [line for line in output.splitlines() if not line.startswith("Interrupted")]
    last = next((word for line in reversed(lines) for word in known if line.startswith(word)), "before the first epoch")
    return "evaluation and export" if lines and lines[-1].startswith("fine-tuning: kept") else last


def trains(output: str) -> bool:
    """Whether a training has read its dataset."""
    return "computing in" in output


class Training:
    """Small trainings in two phases, one after the other into the same model folder.

    Attributes:
        seconds: duration of an undisturbed training after it has read the dataset.
        completed: number of trainings that ended by themselves.
    """

    def __init__(self, folder: Path) -> None:
        from classify_serving.tensorflow_import import import_tensorflow

        import_tensorflow()
        import keras

        self._folder = folder
        rng = np.random.default_rng(1)
        for label, colour in (("cat", 60), ("dog", 130), ("fox", 200)):
            (folder / "data" / label).mkdir(parents=True)
            for number in range(40):
                image = np.clip(rng.normal(colour, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(image).save(folder / "data" / label / f"{number}.png")
        keras.applications.VGG16(include_top=False, weights=None).save_weights(folder / "vgg.weights.h5")
        self._seed, self.completed = 1, 0
        # A signal that changes nothing, to measure how long a training takes.
        whole = Interrupted(self._command(), folder, trains, 0, signal.SIGCONT)
        self._check_completed(whole)
        self.seconds = whole.seconds or 0.0

    def _command(self) -> list[str]:
        options = {
            "output": "models/m", "runs": "runs", "image-size": 32, "weights": "vgg.weights.h5", "head-epochs": 3,
            "epochs": 3, "cached-augmentations": 2, "seed": self._seed, "cache": "cache",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [str(BIN / "classify-train"), "train", "data", *words]

    def versions(self) -> set[str]:
        """The names of the versions published so far."""
        return {path.name for path in (self._folder / "models/m").glob("[0-9]*")}

    def interrupted(self, delay: float, number: int, outcomes: Counter[str]) -> Interrupted:
        """Run the current training with an interruption, and check what it leaves."""
        run = Interrupted(self._command(), self._folder, trains, delay, number)
        versions = self.versions()
        check(len(versions) <= self._seed, f"published twice: {sorted(versions)}")
        for version in versions:
            for name in VERSION_FILES:
                check((self._folder / "models/m" / version / name).is_file(), f"version {version} has no {name}")
        if "resuming after" in run.output:
            outcomes["of all: resumed after a finished epoch"] += 1
        if run.returncode == 0 or (number == signal.SIGKILL and "Exported" in run.output):
            self._check_completed(run)
        return run

    def _check_completed(self, run: Interrupted) -> None:
        """Check what a training that ended by itself has written, and go on to the next one."""
        check(run.returncode in (0, -signal.SIGKILL), f"exit code {run.returncode}: {run.output}")
        versions, seed = self.versions(), self._seed
        check(versions == {str(number) for number in range(1, seed + 1)}, f"training {seed} left {sorted(versions)}")
        import tensorflow as tf

        model = tf.saved_model.load(str(self._folder / "models/m" / str(seed)))
        images = tf.zeros((2, 32, 32, 3), tf.uint8)
        answer = model.signatures["serving_default"](images=images)
        check(answer["probabilities"].shape == (2, 3), f"version {seed} does not answer")
        left = [path.name for path in (self._folder / "models/m").iterdir() if path.name not in versions]
        check(not [name for name in left if not name.endswith("lock")], f"left in the model folder: {left}")
        newest = max((self._folder / "runs").iterdir())
        metrics = json.loads((newest / "metrics.json").read_bytes())
        check(metrics["version"] == seed, f"metrics.json of {newest.name} is about version {metrics['version']}")
        with (newest / "history.csv").open(newline="") as file:
            epochs = [(row["phase"], int(row["epoch"])) for row in csv.DictReader(file)]
        complete = [(phase, epoch) for phase in ("head", "fine-tuning") for epoch in (1, 2, 3)]
        check(epochs == complete, f"history.csv of {newest.name} has {epochs}")
        check(not (newest / "checkpoint").exists() or run.returncode != 0, f"{newest.name} still has a checkpoint")
        check(len([*(self._folder / "runs").iterdir()]) == seed, f"training {seed} left more than one run")
        self._seed, self.completed = seed + 1, self.completed + 1


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
