"""`classify-client --ray` on machines that are processes of this one: `make bench-scale`. Prints tables in Markdown.

Servers take a fixed time for a batch and answer one batch at a time, so that they, and not this machine's processors,
are the limit as long as possible. Results are in docs/benchmarks.md.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final

import click
from PIL import Image

from bench.inference.client import Run, run
from bench.inference.null_server import times_of
from bench.inference.servers import null_server
from classify_client.cluster.machines.repeating import regularly

IMAGE_SIZE: Final = 32
BATCH_SIZE: Final = 32
CPUS: Final = 3
"""Logical processors of each machine: the fewest that a cluster of one machine needs."""
PARTS: Final = ("machines", "overhead", "manifest")
_SAMPLE_SECONDS: Final = 0.5


@click.command()
@click.option("--machines", multiple=True, type=int, default=[1, 2, 4, 8], help="Numbers of machines; repeatable.")
@click.option("--seconds", default=0.05, help="Time that a server takes for a batch of 32 images.")
@click.option("--duration", default=30.0, help="Time that each number of machines is measured for.")
@click.option("--images", default=20_000, help="Number of images in the comparison with a run without a cluster.")
@click.option("--rows", default=1_000_000, help="Number of rows of empty work.")
@click.option("--rounds", default=3, help="Number of measurements of each kind.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Measure only this; repeatable.")
def main(
    machines: Sequence[int], seconds: float, duration: float, images: int, rows: int, rounds: int, only: Sequence[str]
) -> None:
    """Measure how a run on a cluster scales, what it costs beside a run without one, and its memory."""
    with tempfile.TemporaryDirectory() as folder:
        if "machines" in (only or PARTS):
            measure_machines(Path(folder), machines, seconds, duration, rounds)
        if "overhead" in (only or PARTS):
            measure_overhead(Path(folder), images, rounds)
        if "manifest" in (only or PARTS):
            measure_manifest(Path(folder), rows)


@contextmanager
def cluster(machines: int, cpus: int = CPUS) -> Iterator[str]:
    """A cluster of so many machines; yields its address."""
    command = [sys.executable, "-m", "bench.cluster.ray_machines", *[str(cpus)] * machines]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        # It ends with its standard input; a signal would make it wait for half a minute.
        process.communicate()


def write_images(folder: Path, count: int) -> Path:
    """A folder with so many copies of one small image."""
    folder.mkdir()
    content = BytesIO()
    Image.effect_noise((IMAGE_SIZE, IMAGE_SIZE), 64).convert("RGB").save(content, "JPEG")
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(content.getvalue())
    return folder


def classify(images: str, *options: str) -> tuple[Run, float]:
    """Run classify-client; gives the measured run, and the seconds that its summary names."""
    with tempfile.TemporaryDirectory() as output:
        program = [str(Path(sys.executable).with_name("classify-client")), images, "--output", output]
        measured = run([*program, "--model", "bench", "--quiet", "--max-failures", str(10**9), *options])
        return measured, float(json.loads((Path(output) / "summary.json").read_text())["seconds"])


def measure_machines(folder: Path, machines: Sequence[int], seconds: float, duration: float, rounds: int) -> None:
    """Images a second from the first answer to the last, with a server for each machine, and of what these could."""
    print("\n| machines | before and after | images/s | of linear |\n|---|---|---|---|")
    capacity = BATCH_SIZE / seconds
    many = write_images(folder / "many", int(capacity * duration * max(machines)))
    for count in machines:
        limit = int(capacity * duration * count)
        with ExitStack() as stack:
            address = stack.enter_context(cluster(count))
            servers = [stack.enter_context(null_server(IMAGE_SIZE, seconds)) for _ in range(count)]
            options = ["--ray", address, "--batch-size", str(BATCH_SIZE)]
            options += [word for each in servers for word in ("--server", each)]
            runs = []
            for _ in range(rounds):
                _, whole = classify(str(many), *options, "--limit", str(limit))
                times = [times_of(each) for each in servers]
                answering = max(last for _, last in times) - min(first for first, _ in times)
                runs.append((whole - answering, limit / answering))
        other, rate = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"| {count} | {other:.1f} s | {rate:.0f} | {rate / (count * capacity):.2f} |", flush=True)


def measure_overhead(folder: Path, images: int, rounds: int) -> None:
    """A run on a cluster of one machine beside one without a cluster, both with a server that answers immediately."""
    few, many = write_images(folder / "some", 64), write_images(folder / "all", images)
    cpus = max(CPUS, 2 * (os.cpu_count() or 1))
    with cluster(1, cpus) as address, null_server(IMAGE_SIZE) as answering:
        options = ("--server", answering, "--batch-size", str(BATCH_SIZE))
        columns: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
        for _ in range(rounds):
            for name, extra in (("without", ()), ("with", ("--ray", address))):
                columns[name].append(tuple(classify(str(each), *options, *extra)[0].seconds for each in (few, many)))  # type: ignore[arg-type]
    print("\n| cluster | start | images/s beyond the start |\n|---|---|---|")
    for name, runs in columns.items():
        start, whole = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"| {name} | {start:.1f} s | {(images - 64) / (whole - start):.0f} |", flush=True)


@dataclass
class PeakMemory:
    """The largest resident memory of each kind of process of a cluster, in MB (2^20 bytes), sampled."""

    peaks: dict[str, float] = field(default_factory=dict)

    def sample(self) -> None:
        """Look at all processes."""
        for path in Path("/proc").glob("[0-9]*"):
            self._look(path)

    def _look(self, process: Path) -> None:
        try:
            name = (process / "cmdline").read_bytes().decode(errors="replace").strip("\0")
            status = (process / "status").read_text()
        except OSError:
            return
        if name.startswith("ray::") and "VmHWM" in status:
            peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
            kind = name.removeprefix("ray::").partition(".")[0]
            self.peaks[kind] = max(self.peaks.get(kind, 0.0), peak)


def measure_manifest(folder: Path, rows: int) -> None:
    """Rows without work, which are images that do not exist: rows a second, and peak memory."""
    print("\n| rows | time | rows/s | command | largest process |\n|---|---|---|---|---|")
    for count in (rows // 10, rows):
        names = folder / f"{count}.txt"
        with names.open("w") as file:
            file.writelines(f"/nowhere/{number:09}.jpg\n" for number in range(count))
        memory = PeakMemory()
        with cluster(2) as address, null_server(IMAGE_SIZE) as answering, regularly(memory.sample, _SAMPLE_SECONDS):
            start = time.perf_counter()
            measured, _ = classify(f"@{names}", "--ray", address, "--server", answering)
            seconds = time.perf_counter() - start
        name, peak = max(memory.peaks.items(), key=lambda item: item[1])
        print(
            f"| {count:,} | {seconds:.0f} s | {count / seconds:.0f} | {measured.peak_memory:.0f} MB"
            f" | {name}: {peak:.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
