"""The whole chain with real programs: dataset, SavedModel, server, predictions and misses."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import write_picture

ROOT = Path(__file__).parents[2]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """New images of a few classes, one of them merged, an image without a label, and a broken one."""
    for name, brightness in (("black/1.png", 20), ("white/1.jpg", 255), ("x/1.png", 55), ("free.png", 100)):
        write_picture(tmp_path / "images" / name, brightness)
    (tmp_path / "images/white/broken.png").write_bytes(b"no image")
    return tmp_path / "images"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    """classify-serve, started on a free port as a user does, and stopped by SIGTERM; yields its address."""
    command = [sys.executable, "-m", "classify_serving", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Serving classifier version 1 on ")
        yield line.split()[-1]
        process.terminate()
        assert process.wait(60) == 0


def read_rows(output: Path) -> list[dict[str, str]]:
    """The rows of predictions.csv."""
    with (output / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_with_a_local_server_writes_all_results(model: Path, images: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "classify_client", str(images), "--local-server", str(model), "--output"]
    # Of a server that the user starts; it must not reach the local one.
    environment = os.environ | {"CLASSIFY_SERVE_MODEL_CONFIG_FILE": str(tmp_path / "absent")}
    result = subprocess.run(
        [*command, str(tmp_path / "out")], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1, "one image is broken"
    assert result.stderr.splitlines() == [
        f"1 of 5 images failed: see the column error in {tmp_path / 'out/predictions.csv'}"
    ]
    rows = read_rows(tmp_path / "out")
    assert [(row["path"], row["status"], row["true_class"]) for row in rows] == [
        ("free.png", "ok", ""),
        ("black/1.png", "ok", "black"),
        ("white/1.jpg", "ok", "white"),
        ("white/broken.png", "error", "white"),
        ("x/1.png", "ok", "others"),
    ]
    misses = [row["miss"] for row in rows if row["correct"] == "false"]
    assert sorted(path.name for path in (tmp_path / "out").glob("miss/*")) == sorted(misses)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["images"], summary["failed"], summary["labelled"]) == (5, 1, 3)
    assert summary["model"]["merges"] == {"x": "others", "y": "others"}


def test_a_client_installed_alone_needs_no_tensorflow(
    client_alone: Path, server: str, images: Path, tmp_path: Path
) -> None:
    pip_list = [sys.executable, "-m", "pip", "--python", str(client_alone / "python"), "list"]
    listed = subprocess.run(pip_list, check=True, capture_output=True, text=True).stdout.lower()
    assert "classify-client" in listed
    assert "tensorflow" not in listed
    assert "scikit-learn" not in listed
    client = str(client_alone / "classify-client")
    command = [client, str(images), "--server", server, "--output", str(tmp_path / "out")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr
    assert len(read_rows(tmp_path / "out")) == 5
    missing = subprocess.run(
        [client, images, "--local-server", ROOT / "nowhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == 3
    assert "no model folder" in missing.stderr
