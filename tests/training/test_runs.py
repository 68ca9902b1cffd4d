"""What a training leaves can be read, run again, and gone on with after a kill."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from classify_training.cli.main import main
from classify_training.errors import FitError
from classify_training.train import Trained

OPTIONS = ["--image-size", "32", "--min-images", "4", "--batch-size", "8", "--val", "0.2", "--test", "0.2"]


@pytest.fixture(scope="module")
def run(model: Path) -> Path:
    """The run that made the `model` fixture."""
    (folder,) = (model.parents[1] / "runs").iterdir()
    return folder


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_finished_run_leaves_what_is_documented(run: Path) -> None:
    assert run.name.endswith("Z-classifier")
    left = {path.name for path in run.iterdir()}
    assert left >= {"config.json", "history.csv", "curves.png", "metrics.json", "confusion.png", "left_out.csv"}
    assert left >= {"report.html", "augmented.png"}
    assert "checkpoint" not in left
    for picture in ("curves.png", "confusion.png", "augmented.png"):
        with Image.open(run / picture) as image:
            assert image.width > 300


def test_metrics_agree_with_themselves_and_with_the_misses(run: Path) -> None:
    metrics = load(run / "metrics.json")
    matrix = np.array(metrics["confusion"]["matrix"])
    assert matrix.sum() == metrics["images"] == 5
    assert metrics["correct"] == np.trace(matrix)
    low, high = metrics["accuracy_interval"]
    assert 0 <= low <= metrics["accuracy"] <= high <= 1
    assert set(metrics["classes"]) == {"black", "grey", "others", "white"}
    assert set(metrics["calibration"]) == {"temperature", "before", "after"}
    misses = [path.name for path in run.glob("miss/*")]
    assert len(misses) == metrics["images"] - metrics["correct"]
    names = metrics["confusion"]["classes"]
    expected = [
        f"{names[true]}_to_{names[predicted]}_"
        for true, predicted in zip(*np.nonzero(matrix), strict=True)
        if true != predicted
    ]
    for name in misses:
        assert any(name.startswith(start) for start in expected)


def test_the_history_has_a_row_an_epoch(run: Path) -> None:
    with (run / "history.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["phase"], row["epoch"]) == ("all layers", "1")
    assert float(row["val_loss_calibrated"]) <= float(row["val_loss"]) + 1e-3


def test_a_config_is_enough_to_train_again(run: Path, tmp_path: Path) -> None:
    """From another folder, with one option changed by hand; shown without training."""
    command = ["train", "--config", str(run / "config.json"), "--runs", str(tmp_path), "--dry-run"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "4 classes" in result.stdout
    result = CliRunner().invoke(main, [*command, "--min-images", "0"])
    assert "5 classes" in result.stdout


def test_a_recipe_gives_defaults_that_options_override(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise FitError("stops the training after its options are written")

    monkeypatch.setattr("classify_training.train.fit", stop)
    seen = {}
    for extra in ([], ["--epochs", "7"]):
        command = ["train", str(dataset), "--recipe", "article", *extra, *OPTIONS, "--weights", "random"]
        command += ["-o", str(tmp_path / "m"), "--runs", str(tmp_path / "runs"), "--no-resume"]
        assert CliRunner().invoke(main, command).exit_code == 1
        newest = max((tmp_path / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        seen[len(extra)] = load(newest / "config.json")
    assert (seen[0]["unfreeze"], seen[0]["learning_rate"], seen[0]["erase"]) == ("all", 1e-3, 0.0)
    assert (seen[0]["epochs"], seen[2]["epochs"]) == (40, 7)


def command(dataset: Path, folder: Path) -> list[str]:
    options = ["--weights", "random", "--epochs", "4", "--patience", "9", "--precision", "float32", *OPTIONS]
    folders = ["--output", str(folder / "m"), "--runs", str(folder / "runs")]
    return [sys.executable, "-m", "classify_training", "train", str(dataset), *options, *folders]


def history(run: Path) -> list[tuple[int, float]]:
    with (run / "history.csv").open(newline="") as file:
        return [(int(row["epoch"]), float(row["val_loss"])) for row in csv.DictReader(file)]


def test_a_killed_training_goes_on_and_ends_like_an_undisturbed_one(dataset: Path, tmp_path: Path) -> None:
    def log_of_training(folder: str) -> str:
        """Train in this process, which already has TensorFlow."""
        result = CliRunner().invoke(main, command(dataset, tmp_path / folder)[3:])
        assert result.exit_code == 0, result.output
        return result.stderr

    with subprocess.Popen(command(dataset, tmp_path / "killed"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("all layers  2"):
                os.kill(process.pid, signal.SIGKILL)
                break
    assert not list((tmp_path / "killed/m").glob("*"))
    for folder in ("killed", "undisturbed"):
        log = log_of_training(folder)
        assert ("resuming after epoch" in log) == (folder == "killed")
        assert "all layers  4" in log
        assert ("all layers  1" in log) == (folder == "undisturbed")
        assert [path.name for path in (tmp_path / folder / "m").iterdir()] == ["1"]
    (killed,), (undisturbed,) = ((tmp_path / folder / "runs").iterdir() for folder in ("killed", "undisturbed"))
    assert [epoch for epoch, _ in history(killed)] == [1, 2, 3, 4]
    # Threads add in another order each time, which is all that may differ.
    np.testing.assert_allclose(
        [loss for _, loss in history(killed)], [loss for _, loss in history(undisturbed)], rtol=0.05
    )
    assert "resuming" not in log_of_training("killed"), "a finished run is not resumed"
    assert {path.name for path in (tmp_path / "killed/m").iterdir()} == {"1", "2"}


def test_an_interrupted_training_says_how_to_go_on(dataset: Path, tmp_path: Path) -> None:
    with subprocess.Popen(command(dataset, tmp_path), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("all layers  1"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert lines[-1].startswith("Interrupted")
    assert not list((tmp_path / "m").glob("*"))


def test_a_repeated_command_after_a_kill_just_past_publishing_publishes_nothing_twice(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(trained: Trained, is_last: bool) -> None:
        raise SystemExit(-9)

    options = [
        "--weights",
        "random",
        "--epochs",
        "1",
        "--output",
        str(tmp_path / "m"),
        "--runs",
        str(tmp_path / "runs"),
    ]
    arguments = ["train", str(dataset), *options, *OPTIONS]
    with monkeypatch.context() as context:
        # Before the first line about what was exported.
        context.setattr("classify_training.cli.main._report", killed)
        assert CliRunner().invoke(main, arguments).exit_code == -9
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["1"]
    (run,) = (tmp_path / "runs").iterdir()
    assert load(run / "metrics.json")["version"] == 1
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0, again.output
    assert f"already trained: {tmp_path / 'm/1'}" in again.stdout
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["1"]
    assert not (run / "checkpoint").exists()


def test_a_repeated_command_after_a_kill_in_the_removal_of_the_checkpoint_is_a_new_training(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = ["--output", str(tmp_path / "m"), "--runs", str(tmp_path / "runs")]
    arguments = ["train", str(dataset), "--weights", "random", "--epochs", "1", *folders, *OPTIONS]
    with monkeypatch.context() as context:
        context.setattr(shutil, "rmtree", lambda path, *_, **__: None)
        first = CliRunner().invoke(main, arguments)
    assert "Exported m version 1" in first.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "checkpoint").exists()
    again = CliRunner().invoke(main, arguments)
    assert "Exported m version 2" in again.stdout
    assert "resuming" not in again.output
    assert not (run / "checkpoint").exists()


def test_trainings_that_end_together_get_different_versions(dataset: Path, tmp_path: Path) -> None:
    folders = ["--output", str(tmp_path / "m"), "--runs", str(tmp_path / "runs")]
    options = ["--weights", "random", "--epochs", "1", "--quiet", *folders, *OPTIONS]
    train = [sys.executable, "-m", "classify_training", "train", str(dataset), *options]
    processes = [subprocess.Popen([*train, "--seed", seed], stdout=subprocess.PIPE, text=True) for seed in ("1", "2")]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "2"]
    assert {line.split()[3] for output in outputs for line in output.splitlines() if "Exported" in line} == {"1", "2"}
