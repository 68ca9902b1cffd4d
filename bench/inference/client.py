"""Throughput, start-up time and peak memory of classify-client: `make bench-client`. Prints tables in Markdown.

The programs of a comparison are measured alternately, and their medians are compared. Rates of the client are those in
its summary.json: they cover the whole run except the start of Python. Results are in docs/benchmarks.md.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from bench.inference.exported_models import FLOAT32, export_versions
from bench.inference.servers import model_server, null_server
from classify_serving.contract.images import decode_image
from classify_serving.contract.model import SERVING_DEFAULT
from classify_serving.tensorflow_import import import_tensorflow

IMAGE_SIZE, BATCH_SIZE = 128, 32
PHOTO, SMALL = (500, 375), (32, 32)
THREADS = os.cpu_count() or 1
# Runs in a small process of its own: peak memory includes that of the process that forks, and this one is large.
_MEASURE_PROGRAM = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.call(sys.argv[1:])
print("", json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]), sep="\\n")
sys.exit(code)
"""
PARTS = ("model", "client", "small", "peer", "precisions", "startup", "memory")


@dataclass(frozen=True)
class Run:
    """The measured run of a program: its output, duration in seconds, and peak memory in MB (2^20 bytes)."""

    stdout: str
    seconds: float
    peak_memory: float


@click.command()
@click.option("--images", default=1000, help="Number of photographs to classify.")
@click.option("--rounds", default=5, help="Number of measurements of each program.")
@click.option("--many", default=100_000, help="Number of tiny images in the measurement of memory.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Measure only this; repeatable.")
def main(images: int, rounds: int, many: int, only: tuple[str, ...]) -> None:
    """Compare classify-client with plain decoding, with the model in this process, and with a simple client."""
    parts = only or PARTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = folder / "photos"
        make_photos(photos, images)
        if "client" in parts:
            compare_with_decoding(photos, IMAGE_SIZE, rounds)
        if "small" in parts:
            small = folder / "small"
            make_photos(small, 20 * images, SMALL)
            compare_with_decoding(small, SMALL[0], rounds)
        if "precisions" in parts:
            compare_precisions(folder, photos, rounds, min(200, images))
        if {"model", "peer", "startup"} & {*parts}:
            import_tensorflow()
            model = export_versions(folder, IMAGE_SIZE)[FLOAT32]
            with model_server(model) as address:
                if "model" in parts:
                    compare_with_model(model.folder, photos, address, rounds)
                if "peer" in parts:
                    compare_with_peer(photos, address, rounds, min(200, images))
                if "startup" in parts:
                    measure_startup(photos, address, rounds)
        if "memory" in parts:
            measure_memory(folder, many)


def make_photos(folder: Path, count: int, size: tuple[int, int] = PHOTO) -> None:
    """Write JPEGs of some width and height: random crops of scikit-learn's two photographs, with random brightness."""
    from sklearn.datasets import load_sample_images

    rng, originals = np.random.default_rng(1), load_sample_images().images
    folder.mkdir()
    for number in range(count):
        photo = Image.fromarray(originals[number % len(originals)])
        width = int(rng.integers(400, 560))
        height = width * 375 // 500
        left, top = int(rng.integers(photo.width - width)), int(rng.integers(photo.height - height))
        crop = photo.crop((left, top, left + width, top + height)).resize(size)
        ImageEnhance.Brightness(crop).enhance(rng.uniform(0.7, 1.3)).save(folder / f"{number:05}.jpg", quality=90)


def run(command: Sequence[str]) -> Run:
    """Run a program to its end and measure it."""
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE_PROGRAM, *command], stdout=subprocess.PIPE, text=True, check=False
    )
    if result.returncode:
        raise click.ClickException(f"{' '.join(command)} ended with exit code {result.returncode}")
    stdout, _, measurement = result.stdout.strip().rpartition("\n")
    seconds, peak_memory = json.loads(measurement)
    return Run(stdout, seconds, peak_memory / 1024)


def run_client(images: Path, address: str, *options: str) -> tuple[Run, dict[str, Any]]:
    """Run classify-client; gives the measured run and the content of summary.json."""
    with tempfile.TemporaryDirectory() as output:
        program = [str(Path(sys.executable).with_name("classify-client")), str(images), "--output", output]
        measured = run([*program, "--server", address, "--model", "bench", "--quiet", *options])
        return measured, json.loads((Path(output) / "summary.json").read_text())


def client_rate(images: Path, address: str) -> float:
    """images/s of a run of classify-client, without the start of Python."""
    return float(run_client(images, address)[1]["images_per_second"])


def alternating_medians(rounds: int, *measurements: Callable[[], float]) -> list[float]:
    """Medians of measurements that alternate, because the speed of a machine changes over time."""
    rates = [[measure() for measure in measurements] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*rates, strict=True)]


def compare_with_decoding(photos: Path, size: int, rounds: int) -> None:
    """Compare the client, with a server that answers immediately, with a loop that only decodes the images."""
    paths = sorted(photos.iterdir())

    def decode_all() -> float:
        def decode(path: Path) -> NDArray[np.uint8]:
            with Image.open(path) as image:
                image.draft(None, (size, size))
                return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0))

        start = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(decode, paths):
                pass
        return len(paths) / (time.perf_counter() - start)

    with null_server(size) as address:
        decoding, classifying = alternating_medians(rounds, decode_all, lambda: client_rate(photos, address))
    title = f"Client alone, with a server that answers immediately; {len(paths):,} images to {size} x {size}"
    print_table(title, ("", "images/s", "of decoding"), [
        (f"decoding only (Pillow), {THREADS} threads", f"{decoding:.0f}", ""),
        ("classify-client", f"{classifying:.0f}", f"{classifying / decoding:.2f}"),
    ])  # fmt: skip


def compare_with_model(model: Path, photos: Path, address: str, rounds: int) -> None:
    """Compare client and server with the model in this process, on batches that are already decoded."""
    import tensorflow as tf

    saved_model = tf.saved_model.load(str(model))
    signature = saved_model.signatures[SERVING_DEFAULT]
    images = np.stack([decode_image(path, IMAGE_SIZE) for path in sorted(photos.iterdir())])
    batches = [images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE)]

    def in_process() -> float:
        start = time.perf_counter()
        for batch in batches:
            for value in signature(images=tf.constant(batch)).values():
                value.numpy()
        return sum(map(len, batches)) / (time.perf_counter() - start)

    in_process()
    local, served = alternating_medians(rounds, in_process, lambda: client_rate(photos, address))
    print_table("End to end", ("", "images/s", "of in-process"), [
        ("SavedModel in-process, decoded batches", f"{local:.1f}", ""),
        ("classify-client and classify-serve", f"{served:.1f}", f"{served / local:.2f}"),
    ])  # fmt: skip


def compare_with_peer(photos: Path, address: str, rounds: int, limit: int) -> None:
    """Compare with a simple client: one image per request, messages made with TensorFlow."""
    peers, clients, single_images = [], [], []
    for _ in range(rounds):
        peers.append(run_peer(photos, address, limit))
        clients.append(run_client(photos, address, "--limit", str(limit)))
        single_images.append(run_client(photos, address, "--limit", "1")[0].seconds)
    reports = [json.loads(peer.stdout.splitlines()[-1]) for peer in peers]
    median = statistics.median
    head = ("", "first answer", "images/s", "whole run", "peak memory")
    print_table(f"Compared with a simple client, {limit} images", head, [
        ("simple client: one image per request, tensorflow", f"{median(report['first'] for report in reports):.1f} s",
         f"{median(report['rate'] for report in reports):.1f}", f"{median(peer.seconds for peer in peers):.1f} s",
         f"{median(peer.peak_memory for peer in peers):.0f} MB"),
        ("classify-client", f"{median(single_images):.1f} s",
         f"{median(summary['images_per_second'] for _, summary in clients):.1f}",
         f"{median(measured.seconds for measured, _ in clients):.1f} s",
         f"{median(measured.peak_memory for measured, _ in clients):.0f} MB"),
    ])  # fmt: skip


def compare_precisions(folder: Path, photos: Path, rounds: int, limit: int) -> None:
    """Compare float32, bfloat16 and int8, from files to results: the client and a server on the same cores."""
    import_tensorflow()
    versions = export_versions(folder / "precisions", IMAGE_SIZE)
    with ExitStack() as stack:
        ours, simple = [], []
        for version in versions.values():
            address = stack.enter_context(model_server(version))
            ours.append(partial(client_rate, photos, address))
            simple.append(partial(peer_rate, photos, address, limit))
        medians = alternating_medians(rounds, *ours)
        peers = alternating_medians(max(1, rounds // 2), *simple)
    rows = [
        (name, f"{rate:.1f}", f"{rate / medians[0]:.2f}x", f"{peer:.1f}", f"{rate / peer:.1f}x")
        for name, rate, peer in zip(versions, medians, peers, strict=True)
    ]
    head = ("", "classify-client, images/s", "of float32", "simple client, images/s", "classify-client of it")
    print_table("Number formats, client and server on the same cores", head, rows)


def peer_rate(photos: Path, address: str, limit: int) -> float:
    """images/s of the simple client."""
    return float(json.loads(run_peer(photos, address, limit).stdout.splitlines()[-1])["rate"])


def run_peer(photos: Path, address: str, limit: int) -> Run:
    """Run the simple client."""
    program = [sys.executable, "-m", "bench.inference.peer"]
    return run([*program, address, "bench", str(IMAGE_SIZE), str(photos), str(limit)])


def measure_startup(photos: Path, address: str, rounds: int) -> None:
    """Measure the duration of --help, and of a run with one image on a server that is already warm."""
    program = str(Path(sys.executable).with_name("classify-client"))
    help_seconds = statistics.median(run([program, "--help"]).seconds for _ in range(3 * rounds))
    one_image_seconds = statistics.median(run_client(photos, address, "--limit", "1")[0].seconds for _ in range(rounds))
    rows = [("--help", f"{help_seconds:.3f}"), ("one image classified", f"{one_image_seconds:.2f}")]
    print_table("Start-up", ("", "seconds"), rows)


def measure_memory(folder: Path, many: int) -> None:
    """Measure peak memory with 1,000 and with many images."""
    rows = []
    content = tiny_png(folder / "tiny.png")
    with null_server(16) as address:
        for count in (1000, many):
            images = folder / f"tiny{count}"
            for number in range(count):
                path = images / f"{number // 1000:04}" / f"{number:06}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            measured, summary = run_client(images, address)
            rows.append((f"{count:,} images", f"{measured.peak_memory:.0f} MB", f"{summary['images_per_second']:.0f}"))
    print_table("Peak memory, images of 16 x 16", ("", "peak memory", "images/s"), rows)


def tiny_png(path: Path) -> bytes:
    """Write an image of 16 x 16 pixels; gives the content of the file."""
    Image.new("RGB", (16, 16), (200, 30, 30)).save(path)
    return path.read_bytes()


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
