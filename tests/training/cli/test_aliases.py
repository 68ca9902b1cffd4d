"""Names of release 0.1 are still accepted: options, environment variables, keys of config.json, and `export`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from classify_training.cli.main import main
from classify_training.cli.main import train as train_command
from classify_training.fitting.checkpoint import Checkpoint

CONFIG_KEYS = {
    "size": ("image_size", 48),
    "rate": ("learning_rate", 0.001),
    "head_rate": ("head_learning_rate", 0.002),
    "variants": ("cached_augmentations", 3),
    "feature_space": ("feature_cache_gb", 2.5),
}
VALUES = dict(CONFIG_KEYS.values())


def parsed(arguments: list[str], variables: dict[str, str]) -> dict[str, Any]:
    """The values of the command's options, as `classify-train` would read them."""
    seen: dict[str, Any] = {}
    copy = click.Command("train", params=train_command.params, callback=lambda **options: seen.update(options))
    copy.context_settings = train_command.context_settings
    result = CliRunner().invoke(copy, ["data", *arguments], env=variables)
    assert result.exit_code == 0, result.output
    return {name: seen[name] for name in VALUES}


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=env)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("names", ["old", "new"])
def test_options_have_two_names(names: str) -> None:
    pairs = {old if names == "old" else new: value for old, (new, value) in CONFIG_KEYS.items()}
    arguments = [part for name, value in pairs.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert parsed(arguments, {}) == VALUES


@pytest.mark.parametrize("prefix", ["CLASSIFY_TRAIN", "CLASSIFY_TRAIN_EXPORT"])
@pytest.mark.parametrize("names", ["old", "new"])
def test_environment_variables_have_old_and_new_names(prefix: str, names: str) -> None:
    pairs = {old if names == "old" else new: value for old, (new, value) in CONFIG_KEYS.items()}
    assert parsed([], {f"{prefix}_{name.upper()}": str(value) for name, value in pairs.items()}) == VALUES


def test_the_new_variable_comes_before_the_old_one() -> None:
    variables = {"CLASSIFY_TRAIN_IMAGE_SIZE": "64", "CLASSIFY_TRAIN_EXPORT_SIZE": "96"}
    assert parsed([], variables)["image_size"] == 64
    assert parsed(["--size", "80"], variables)["image_size"] == 80


def test_variables_of_other_commands_have_old_names_too(dataset: Path) -> None:
    result = run("inspect", dataset, env={"CLASSIFY_TRAIN_INSPECT_SIZE": "nonsense"})
    assert result.exit_code == 2
    assert "--image-size" in result.stderr


def test_help_shows_the_current_names_only() -> None:
    shown = run("train", "--help").stdout
    assert "--image-size" in shown
    assert "--learning-rate" in shown
    for old in ("--size", "--rate", "--head-rate", "--variants", "--feature-space"):
        assert f"{old} " not in shown
    assert "\n  export " not in run("--help").stdout


def test_export_is_train(dataset: Path, tmp_path: Path) -> None:
    options = (dataset, "-o", tmp_path / "m", "--runs", tmp_path / "r", "--weights", "random", "--dry-run")
    old, new = run("export", *options), run("train", *options)
    assert old.exit_code == new.exit_code == 0
    assert old.stdout == new.stdout
    assert run("export", "--help").stdout == run("train", "--help").stdout


def test_the_map_takes_most(tmp_path: Path) -> None:
    for option in ("--most", "--max-images"):
        result = run("map", tmp_path, option, "3")
        assert result.exit_code == 2
        assert "'--max-images'" in result.stderr


@pytest.mark.parametrize("where", ["run", "dataset"])
def test_old_keys_in_a_config_are_read(tmp_path: Path, where: str) -> None:
    old = {name: value for name, (_, value) in CONFIG_KEYS.items()}
    if where == "run":
        path = tmp_path / "config.json"
        arguments = ["--config", str(path)]
    else:
        path = tmp_path / "data" / "config.json"
        path.parent.mkdir()
        arguments = []
    path.write_text(json.dumps(old))
    seen: dict[str, Any] = {}
    copy = click.Command("train", params=train_command.params, callback=lambda **options: seen.update(options))
    result = CliRunner().invoke(copy, [str(tmp_path / "data"), *arguments])
    assert result.exit_code == 0, result.output
    assert {name: seen[name] for name in VALUES} == VALUES


def test_an_old_checkpoint_is_read(tmp_path: Path) -> None:
    epoch = {"phase": "head", "epoch": 1, "loss": 1.0, "accuracy": 0.5, "val_calibrated": 0.25, "seconds": 1}
    state = {"phase": 0, "epoch": 1, "best_loss": 0.25, "best_epoch": 1, "history": [epoch]}
    checkpoint = Checkpoint(tmp_path)
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert checkpoint.state().history[0].val_loss_calibrated == 0.25


def test_a_killed_run_of_the_old_release_is_resumed(dataset: Path, tmp_path: Path) -> None:
    options = ["--weights", "random", "--epochs", "2", "--precision", "float32", "--image-size", "32"]
    options += ["--min-images", "4", "--batch-size", "8", "--runs", str(tmp_path / "runs")]
    command = [sys.executable, "-m", "classify_training", "train", str(dataset), "-o", str(tmp_path / "m"), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("all layers  1"):
                os.kill(process.pid, signal.SIGKILL)
                break
    (folder,) = (tmp_path / "runs").iterdir()
    settings = json.loads((folder / "config.json").read_text())
    old_names = {new: old for old, (new, _) in CONFIG_KEYS.items()}
    (folder / "config.json").write_text(json.dumps({old_names.get(name, name): v for name, v in settings.items()}))
    state = (folder / "checkpoint/state.json").read_text()
    (folder / "checkpoint/state.json").write_text(state.replace("val_loss_calibrated", "val_calibrated"))
    result = run(*command[3:])
    assert result.exit_code == 0
    assert list((tmp_path / "runs").iterdir()) == [folder]
    assert (folder / "history.csv").read_text().startswith("phase,epoch,loss,accuracy,val_loss,val_loss_calibrated,")
    assert f"Serve it:  classify-serve {tmp_path / 'm'}" in result.stdout
