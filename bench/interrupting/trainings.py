"""Trainings that are killed or get signals: each must publish one version, which is whole."""

import csv
import json
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from bench.interrupting.commands import BIN, Goal, Interrupted, check

VERSION_FILES: Final = ("saved_model.pb", "variables/variables.index", "assets.extra/train_manifest.csv")


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
    known = ("head", "from block5")
    lines = [line for line in output.splitlines() if not line.startswith("Interrupted")]
    last = next((word for line in reversed(lines) for word in known if line.startswith(word)), "before the first epoch")
    return "evaluation and export" if lines and lines[-1].startswith("from block5: kept") else last


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
            "output": "models/m", "runs": "runs", "image-size": 32, "weights": "vgg.weights.h5", "unfreeze": "block5",
            "patience": 9, "head-epochs": 3, "epochs": 3, "cached-augmentations": 2, "seed": self._seed,
            "cache": "cache",
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
        complete = [(phase, epoch) for phase in ("head", "from block5") for epoch in (1, 2, 3)]
        check(epochs == complete, f"history.csv of {newest.name} has {epochs}")
        check(not (newest / "checkpoint").exists() or run.returncode != 0, f"{newest.name} still has a checkpoint")
        check(len([*(self._folder / "runs").iterdir()]) == seed, f"training {seed} left more than one run")
        self._seed, self.completed = seed + 1, self.completed + 1
