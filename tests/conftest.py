"""One small exported model for all tests that need a real one; exporting takes some seconds."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support import write_picture

SIDE = 32

# A machine that is busy is no reason to fail.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Before anything reads it: what training caches is part of a test's own files.
_CACHES = tempfile.TemporaryDirectory(prefix="classify-test-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHES.name


@pytest.fixture(scope="session", autouse=True)
def _caches() -> Iterator[None]:
    yield
    _CACHES.cleanup()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Black, grey and white pictures, and two classes so small that they are merged."""
    root = tmp_path_factory.mktemp("data") / "dataset"
    for label, brightness, count in (("black", 0, 8), ("grey", 100, 6), ("white", 230, 8), ("x", 50, 2), ("y", 60, 2)):
        for number in range(count):
            write_picture(root / label / f"{number}.png", brightness + number, (40, 30))
    return root


@pytest.fixture(scope="session")
def model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder with version 1, trained for one epoch through the real command."""
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
