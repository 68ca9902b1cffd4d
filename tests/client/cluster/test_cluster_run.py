"""`--ray`: the files of a run on a cluster are those of a run on this machine, whatever happens to its machines."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from client_support import Client, Start
from cluster_support import PATIENCE, Machines, command, files, ray_machines, run, summary
from numpy.typing import NDArray
from support import BrightnessModel, free_port, make_metadata, serving, write_picture

from classify_client.cluster.storage.parts import count_rows, find_parts
from classify_client.cluster.storage.work_folder import WorkFolder
from classify_serving.contract import model as contract
from classify_serving.exchange.train_manifest import train_manifest_csv
from classify_serving.files import sha256_of

# Processes of Ray start slowly where other tests use the processors.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """A cluster of two machines with two processors each."""
    with ray_machines(2, 2) as cluster:
        yield cluster


def write_images(client: Client, count: int) -> None:
    """Images of three classes, a third of them with a wrong label, and a broken one."""
    for number in range(count - 1):
        label = ("black", "grey", "white")[number % 3]
        write_picture(client.images / label / f"{number:04}.png", (5, 128, 250)[(number // 3) % 3], (12, 12))
    (client.images / "white" / "broken.png").write_bytes(b"no image")


def test_the_results_are_those_of_a_run_without_a_cluster(
    start: Start, machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(BrightnessModel(make_metadata(merges={"dark": "black"})))
    write_images(client, 300)
    write_picture(client.images / "dark" / "one.png", 250, (12, 12))
    write_picture(client.images / "unknown" / "one.png", 250, (12, 12))
    here, there = tmp_path / "here", tmp_path / "there"
    # A model that was trained on some of the images; the inputs are relative to the working directory.
    monkeypatch.chdir(client.images.parent)
    seen = [
        ("grey/0001.png", "grey", "train"),
        ("black/0003.png", "black", "train"),
        ("white/0002.png", "white", "test"),
    ]
    (tmp_path / "seen.csv").write_bytes(
        train_manifest_csv([(sha256_of(client.images / name), label, split) for name, label, split in seen])
    )
    client = replace(client, images=Path("images"))
    options = ("--review-below", "0.9", "--max-failures", "1", "--train-manifest", str(tmp_path / "seen.csv"))
    assert run(client, here, *options).returncode == 0
    on_cluster = (*options, "--ray", machines.address)
    # Two runs at the same time take turns.
    with subprocess.Popen(command(client, tmp_path / "other", *on_cluster, "--limit", "20")) as other:
        done = run(client, there, *on_cluster)
    assert other.returncode == 0
    assert len((tmp_path / "other" / "predictions.csv").read_text().splitlines()) == 21
    assert done.returncode == 0, done.stderr
    assert done.stderr.replace("Waiting for another classify-client on this cluster to end.\n", "") == (
        f"1 of 302 images failed: see the column error in {there}/predictions.csv\n"
    )
    assert files(there) == files(here)
    assert summary(there) == summary(here)
    assert "2 machines" in done.stdout
    assert (there / "report.html").stat().st_size > 0.9 * (here / "report.html").stat().st_size
    assert (there / "review.csv").read_text() == (here / "review.csv").read_text()

    # Again: only what is new, what was changed and what failed is sent; a copy that is no miss any more is removed.
    asked = client.model.images
    write_picture(client.images / "white" / "new.png", 250, (12, 12))
    changed = client.images / "black" / "0003.png"
    assert list((there / "miss").glob(f"*{changed.name}"))
    write_picture(changed, 5, (14, 14))
    again = json.loads(run(client, there, *on_cluster, "--json", "--format", "parquet", "--max-misses", "5").stdout)
    assert client.model.images - asked == 2
    assert (again["images"], again["reused"], again["failed"]) == (303, 300, 1)
    assert (again["copied_misses"], len(list((there / "miss").iterdir()))) == (5, 5)
    assert not list((there / "miss").glob(f"*{changed.name}"))
    assert not (there / "predictions.csv").exists()
    # A run without a cluster goes on from there.
    asked = client.model.images
    assert run(client, there, *options).returncode == 0
    assert client.model.images == asked
    assert run(client, here, *options).returncode == 0
    assert files(there) == files(here)

    # With another model, the report compares it with this one.
    second = start(BrightnessModel(make_metadata(merges={"dark": "black"}, model_version=2)))
    client = replace(client, address=second.address)
    assert run(client, here, *options).returncode == 0
    assert run(client, there, *on_cluster).returncode == 0
    assert files(there) == files(here)
    assert comparison(there) == comparison(here)
    assert "still wrong" in comparison(here)


def comparison(folder: Path) -> str:
    """The part of a report that compares two models."""
    return (folder / "report.html").read_text().partition('<section id="comparison"')[2].partition("</section>")[0]


def test_each_machine_serves_the_model_itself(dataset: Path, model: Path, machines: Machines, tmp_path: Path) -> None:
    for output, options in (("here", ()), ("there", ("--ray", machines.address, "--batch-size", "8"))):
        program = [sys.executable, "-m", "classify_client", str(dataset), "--output", str(tmp_path / output)]
        subprocess.run(
            [*program, "--local-server", str(model), "--max-failures", "9", *options], check=True, capture_output=True
        )
    here, there = (files(tmp_path / output)["predictions.csv"].decode().splitlines() for output in ("here", "there"))
    # The last digits of a probability depend on the images that are computed at the same time.
    assert [line.split(",")[:5] for line in there] == [line.split(",")[:5] for line in here]
    assert len(here) > 20
    assert summary(tmp_path / "there")["confusion"] == summary(tmp_path / "here")["confusion"]


class PausingModel(BrightnessModel):
    """Stops answering after some images, until `gate` is set again."""

    def __init__(self, pause_after: int) -> None:
        super().__init__(make_metadata())
        self.pause_after: int | None = pause_after
        self.paused = threading.Event()

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if signature != contract.METADATA and self.pause_after is not None and self.images >= self.pause_after:
            self.pause_after = None
            self.gate.clear()
            self.paused.set()
        return super().predict(signature, inputs)

    def go_on(self, pause_after: int | None = None) -> None:
        """Answer again."""
        self.paused.clear()
        self.pause_after = pause_after
        self.gate.set()


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def running(client: Client, output: Path, machines: Machines) -> Iterator["subprocess.Popen[str]"]:
    options = ("--ray", machines.address, "--max-failures", "1", "--threads", "1")
    with subprocess.Popen(command(client, output, *options), stderr=subprocess.PIPE, text=True) as process:
        yield process


def test_nothing_is_lost_when_processes_and_machines_end(start: Start, machines: Machines, tmp_path: Path) -> None:
    model = PausingModel(200)
    client, output = start(model), tmp_path / "there"
    write_images(client, 1200)

    def answered() -> int:
        work = WorkFolder.find(output)
        return count_rows(find_parts(work.rows)) if work else 0

    # The command itself is killed: what has a row is not sent again.
    with running(client, output, machines) as process:
        wait_for(model.paused.is_set, process)
        wait_for(answered, process)
        process.kill()
    done, asked = answered(), model.images
    assert 0 < done < 1200
    assert [path.name for path in output.iterdir()] == [".cluster"]
    model.go_on(asked + 100)

    with running(client, output, machines) as process:
        # A process of a machine, and then a whole machine.
        wait_for(model.paused.is_set, process)
        os.kill(machines.classifying()[-1], signal.SIGKILL)
        model.go_on(model.images + 100)
        wait_for(model.paused.is_set, process)
        number = machines.tell("add 2")
        model.go_on(model.images + 100)
        wait_for(model.paused.is_set, process)
        assert machines.tell("remove 1") == "removed"
        model.go_on()
        assert process.wait(PATIENCE) == 0, process.stderr and process.stderr.read()
    assert number == "2"
    assert machines.tell("add 2") == "3"
    assert not (output / ".cluster").exists()
    assert run(client, tmp_path / "here", "--max-failures", "1").returncode == 0
    assert files(output) == files(tmp_path / "here")
    assert json.loads((output / "summary.json").read_text())["reused"] >= done


def test_a_server_that_ends_is_named_and_the_run_goes_on_with_another(machines: Machines, tmp_path: Path) -> None:
    model, output = PausingModel(100), tmp_path / "out"
    with serving(model) as address:
        client = Client(model, address, tmp_path / "images", output)
        write_images(client, 400)
        lost = [*command(client, output, "--ray", machines.address), "--retry-timeout", "1s"]
        process = subprocess.Popen(lost, stderr=subprocess.PIPE, text=True)
        wait_for(model.paused.is_set, process)
        model.gate.set()
    _, message = process.communicate()
    assert process.returncode == 3
    assert address in message.splitlines()[-1]
    assert "start one" in message
    assert "Traceback" not in message
    with serving(BrightnessModel(make_metadata())) as another:
        client = replace(client, address=another)
        assert run(client, output, "--ray", machines.address, "--max-failures", "1").returncode == 0
    assert len((output / "predictions.csv").read_text().splitlines()) == 401


def test_what_a_cluster_lacks_is_said_in_one_sentence(start: Start, machines: Machines, tmp_path: Path) -> None:
    client = start(BrightnessModel(make_metadata()))
    write_images(client, 5)
    nobody, output = f"127.0.0.1:{free_port()}", tmp_path / "out"
    for options, code, reason in (
        (("--ray", nobody), 3, f"no Ray cluster at {nobody}"),
        (("--ray", "ray://head:10001"), 2, "only HOST:PORT or auto can be used"),
        (("--ray", "head"), 2, "give auto, or HOST:PORT of the head machine"),
        (("--ray", client.address), 3, f"no Ray cluster at {client.address} (another program)"),
        (("--ray", machines.address, "--embed"), 2, "--embed opens every image on one machine"),
        (("--ray", machines.address, "--server", nobody, "--retry-timeout", "1s"), 3, f"at {nobody}"),
        (("--ray", machines.address, "--local-server", str(tmp_path / "none")), 2, "no model folder"),
        (("--ray", machines.address, "--token-file", str(tmp_path / "none")), 2, "correct --token-file"),
    ):
        program = [sys.executable, "-m", "classify_client", str(client.images), "--output", str(output)]
        server = () if "--server" in options or "--local-server" in options else ("--server", client.address)
        ended = subprocess.run([*program, *server, *options], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr.count("\n")) == (code, 1), ended.stderr
        assert reason in ended.stderr
        assert not output.exists() or not list(output.iterdir())
