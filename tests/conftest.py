"""Fixtures that take some seconds and are shared by many tests: a dataset, a model trained on it, the wheels."""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support import write_picture

SIDE = 32
ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]

# A test must not fail because the machine is busy.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Set before any module reads it, so that training caches its files in a temporary folder.
_CACHES = tempfile.TemporaryDirectory(prefix="classify-test-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHES.name


@pytest.fixture(scope="session", autouse=True)
def _caches() -> Iterator[None]:
    yield
    _CACHES.cleanup()


@pytest.fixture
def uncovered_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no coverage in commands that a test starts.

    With a limit on file sizes they cannot write it, and files outside of the source tree would count as uncovered.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Black, grey and white images, and two classes so small that they are merged."""
    root = tmp_path_factory.mktemp("data") / "dataset"
    for label, brightness, count in (("black", 0, 8), ("grey", 100, 6), ("white", 230, 8), ("x", 50, 2), ("y", 60, 2)):
        for number in range(count):
            write_picture(root / label / f"{number}.png", brightness + number, (40, 30))
    return root


@pytest.fixture(scope="session")
def model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with version 1, trained for one epoch by the real command."""
    from click.testing import CliRunner

    from classify_training.cli.main import main

    folder = tmp_path_factory.mktemp("trained") / "models" / "classifier"
    command = ["train", str(dataset), "--output", str(folder), "--image-size", str(SIDE), "--weights", "random"]
    command += ["--epochs", "1", "--min-images", "4", "--batch-size", "8", "--val", "0.2", "--test", "0.2"]
    command += ["--runs", str(folder.parents[1] / "runs")]
    result = CliRunner().invoke(main, command)
    if result.exception:
        raise result.exception
    assert "Exported classifier version 1" in result.stdout
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of the three parts, built as a user's pip builds them."""
    folder = tmp_path_factory.mktemp("wheels")
    # Building leaves files in a part's folder and takes over what earlier builds left there.
    leftovers = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    copies: list[Path] = [
        shutil.copytree(ROOT / part, folder / "source" / part, ignore=leftovers)
        for part in ("serving", "training", "client")
    ]
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", folder, *copies], check=True)
    return folder


@pytest.fixture(scope="session")
def client_alone(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment in which the client and the contract are installed, with what they need."""
    folder = tmp_path_factory.mktemp("client-alone")
    venv.create(folder)
    python = folder / "bin" / "python"
    parts = [next(wheels.glob(f"classify_{part}-*.whl")) for part in ("serving", "client")]
    constraints = ROOT / "constraints.txt"
    subprocess.run([*PIP, "--python", python, "install", "--constraint", constraints, *parts], check=True)
    return python.parent
