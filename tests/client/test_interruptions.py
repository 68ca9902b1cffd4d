"""Whatever ends a run, results are whole and the next run goes on from them."""

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
def many(start: Start) -> Client:
    """240 pictures, two of three classes with misses, which are sent one by one."""
    made = start(BrightnessModel(make_metadata()))
    for label, levels in BRIGHTNESSES.items():
        for index in range(80):
            write_picture(made.images / label / f"{index:03}.png", levels[index % 2])
    return made


def command(made: Client, output: Path, *arguments: str) -> list[str]:
    program = [sys.executable, "-m", "classify_client", str(made.images), "--output", str(output)]
    return [*program, "--server", made.address, "--batch-size", "1", *arguments]


def content(folder: Path) -> dict[str, bytes]:
    """All results but those that tell of the last run, as how long it took."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("summary.json", "report.html")
    }


def test_killed_at_any_moment_a_rerun_gives_the_rows_of_an_undisturbed_run(many: Client, tmp_path: Path) -> None:
    subprocess.run(command(many, tmp_path / "undisturbed"), check=True, capture_output=True)
    random_ = random.Random(1)
    kills = 0
    while kills < 8:
        rows = many.output / "predictions.csv"
        done = rows.stat().st_size if rows.exists() else 0
        goal = done + random_.choice((0, 1, 100, 3000, 6000))
        with subprocess.Popen(command(many, many.output), stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not (rows.exists() and rows.stat().st_size >= goal):
                time.sleep(0.001)
            time.sleep(random_.random() / 50)
            process.kill()
            kills += 1
        if process.returncode == 0:
            shutil.rmtree(many.output)
    subprocess.run(command(many, many.output), check=True, capture_output=True)
    assert content(many.output) == content(tmp_path / "undisturbed")
    assert len(many.rows()) == 240


def test_ctrl_c_twice_gives_up_what_is_in_flight(many: Client) -> None:
    many.model.gate.clear()
    told = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "Ctrl-C again" in record.getMessage():
                told.set()

    def shutdown() -> None:
        assert many.model.asked.wait(30)
        os.kill(os.getpid(), signal.SIGINT)
        assert told.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    listener = Listener()
    logging.getLogger("classify_client").addHandler(listener)
    thread = threading.Thread(target=shutdown)
    thread.start()
    result = many.run("--batch-size", "1")
    thread.join()
    logging.getLogger("classify_client").removeHandler(listener)
    many.model.gate.set()
    assert result.exit_code == 130, result.output
    assert many.rows() == []
    assert not many.summary()["complete"]
    assert many.run().exit_code == 0
    assert len(many.rows()) == 240


def test_two_runs_never_write_to_one_folder(many: Client) -> None:
    many.output.mkdir()
    with locked(many.output):
        result = many.run()
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert str(many.output) in result.stderr
    assert list(many.output.iterdir()) == []
    assert many.run().exit_code == 0


@pytest.mark.usefixtures("uncovered_commands")
def test_a_full_disk_is_told_and_a_rerun_goes_on(many: Client, tmp_path: Path) -> None:
    full = subprocess.run(
        ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", *command(many, many.output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert full.returncode == 2
    assert len(full.stderr.splitlines()) == 1, full.stderr
    assert "file too large" in full.stderr
    assert str(many.output) in full.stderr
    asked = many.model.images
    assert many.run().exit_code == 0
    assert len(many.rows()) == 240
    assert many.model.images < asked + 240, "what was written is not asked again"
    many.output, whole = tmp_path / "undisturbed", content(many.output)
    many.run()
    assert content(many.output) == whole


class VanishingModel(BrightnessModel):
    """Deletes a file or folder when it is asked the first time."""

    def __init__(self, path: Path) -> None:
        super().__init__(make_metadata())
        self.path = path

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if signature != contract.METADATA and self.path.exists():
            shutil.rmtree(self.path)
        return super().predict(signature, inputs)


def test_inputs_that_vanish_lose_only_themselves(start: Start, tmp_path: Path) -> None:
    made = start(VanishingModel(tmp_path / "images/white"))
    for index in range(30):
        write_picture(made.images / f"black/{index:02}.png", 5)
        write_picture(made.images / f"white/{index:02}.png", 250)
    result = made.run("--batch-size", "2", "--in-flight", "1", "--threads", "1")
    assert result.exit_code in (1, 2), result.output
    assert len(result.stderr.splitlines()) == 1
    rows = made.rows()
    assert [row["path"] for row in rows if row["status"] == "ok"][:30] == [
        f"black/{index:02}.png" for index in range(30)
    ]
    assert all("no such file" in row["error"] for row in rows if row["status"] == "error")
    assert (made.output / "summary.json").exists()
