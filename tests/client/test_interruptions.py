"""Interrupted runs: the results so far are valid, and running again resumes."""

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from client_support import Client, Start
from numpy.typing import NDArray
from support import BrightnessModel, make_metadata, write_picture

from classify_serving.contract import model as contract
from classify_serving.files import locked

BRIGHTNESSES = {"black": (5, 250), "white": (250, 128), "grey": (128, 127)}


@pytest.fixture
def large_client(start: Start) -> Client:
    """A client of 240 images in three folders; half of the images in `black` and in `white` are misses."""
    client = start(BrightnessModel(make_metadata()))
    for label, levels in BRIGHTNESSES.items():
        for index in range(80):
            write_picture(client.images / label / f"{index:03}.png", levels[index % 2])
    return client


def command(client: Client, output: Path, *arguments: str) -> list[str]:
    """A run in a process of its own, with one image per request."""
    program = [sys.executable, "-m", "classify_client", str(client.images), "--output", str(output)]
    return [*program, "--server", client.address, "--batch-size", "1", *arguments]


def read_results(folder: Path) -> dict[str, bytes]:
    """The content of each result file, by path, except those that contain the duration of the run."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("summary.json", "report.html")
    }


def test_a_rerun_after_random_kills_gives_the_results_of_an_uninterrupted_run(
    large_client: Client, tmp_path: Path
) -> None:
    subprocess.run(command(large_client, tmp_path / "undisturbed"), check=True, capture_output=True)
    rng = random.Random(1)
    kills = 0
    while kills < 8:
        rows = large_client.output / "predictions.csv"
        done = rows.stat().st_size if rows.exists() else 0
        kill_at = done + rng.choice((0, 1, 100, 3000, 6000))
        with subprocess.Popen(command(large_client, large_client.output), stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not (rows.exists() and rows.stat().st_size >= kill_at):
                time.sleep(0.001)
            time.sleep(rng.random() / 50)
            process.kill()
            kills += 1
        if process.returncode == 0:
            shutil.rmtree(large_client.output)
    subprocess.run(command(large_client, large_client.output), check=True, capture_output=True)
    assert read_results(large_client.output) == read_results(tmp_path / "undisturbed")
    assert len(large_client.rows()) == 240


def test_a_second_ctrl_c_cancels_the_requests_in_flight(large_client: Client) -> None:
    large_client.model.gate.clear()
    warned = threading.Event()

    class WarningListener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "Ctrl-C again" in record.getMessage():
                warned.set()

    def press_ctrl_c_twice() -> None:
        assert large_client.model.asked.wait(30)
        os.kill(os.getpid(), signal.SIGINT)
        assert warned.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    listener = WarningListener()
    logging.getLogger("classify_client").addHandler(listener)
    thread = threading.Thread(target=press_ctrl_c_twice)
    thread.start()
    result = large_client.run("--batch-size", "1")
    thread.join()
    logging.getLogger("classify_client").removeHandler(listener)
    large_client.model.gate.set()
    assert result.exit_code == 130, result.output
    assert large_client.rows() == []
    assert not large_client.summary()["complete"]
    assert large_client.run().exit_code == 0
    assert len(large_client.rows()) == 240


def test_a_second_run_with_the_same_output_folder_is_refused(large_client: Client) -> None:
    large_client.output.mkdir()
    with locked(large_client.output):
        result = large_client.run()
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert str(large_client.output) in result.stderr
    assert list(large_client.output.iterdir()) == []
    assert large_client.run().exit_code == 0


@pytest.mark.usefixtures("uncovered_commands")
def test_a_full_disk_ends_the_run_with_one_line_and_a_rerun_resumes(large_client: Client, tmp_path: Path) -> None:
    result = subprocess.run(
        ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", *command(large_client, large_client.output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "file too large" in result.stderr
    assert str(large_client.output) in result.stderr
    images_sent = large_client.model.images
    assert large_client.run().exit_code == 0
    assert len(large_client.rows()) == 240
    assert large_client.model.images < images_sent + 240, "images that have a row are not sent again"
    large_client.output, resumed = tmp_path / "undisturbed", read_results(large_client.output)
    large_client.run()
    assert read_results(large_client.output) == resumed


class DeletingModel(BrightnessModel):
    """Deletes a folder when the first batch arrives."""

    def __init__(self, path: Path) -> None:
        super().__init__(make_metadata())
        self.path = path

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if signature != contract.METADATA and self.path.exists():
            shutil.rmtree(self.path)
        return super().predict(signature, inputs)


def test_images_deleted_during_the_run_fail_and_all_others_are_classified(start: Start, tmp_path: Path) -> None:
    client = start(DeletingModel(tmp_path / "images/white"))
    for index in range(30):
        write_picture(client.images / f"black/{index:02}.png", 5)
        write_picture(client.images / f"white/{index:02}.png", 250)
    result = client.run("--batch-size", "2", "--in-flight", "1", "--threads", "1")
    assert result.exit_code in (1, 2), result.output
    assert len(result.stderr.splitlines()) == 1
    rows = client.rows()
    assert [row["path"] for row in rows if row["status"] == "ok"][:30] == [
        f"black/{index:02}.png" for index in range(30)
    ]
    assert all("no such file" in row["error"] for row in rows if row["status"] == "error")
    assert (client.output / "summary.json").exists()
