"""What the client costs: `make bench-client`. Prints Markdown; docs/benchmarks.md says what came out, where and when.

Sides of a comparison take turns, and medians are compared. Rates of the client are those of its summary: all of a
run but the start of Python.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from classify_serving.contract.images import decode_image
from classify_serving.contract.model import SCHEMA_VERSION, SERVING_DEFAULT, ModelMetadata
from classify_serving.tensorflow_import import import_tensorflow

SIZE, BATCH = 128, 32
THREADS = os.cpu_count() or 1
HERE = Path(__file__).parent
# In a small process of its own: a program's peak of memory counts from its fork, and we are large.
_MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.call(sys.argv[1:])
print("", json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]), sep="\\n")
sys.exit(code)
"""
PARTS = ("model", "client", "peer", "startup", "memory")


@dataclass(frozen=True)
class Run:
    """A program that ended: what it printed, its seconds, and the most memory it had, in MB."""

    stdout: str
    seconds: float
    peak: float


@click.command()
@click.option("--images", default=1000, help="Photographs to classify.")
@click.option("--rounds", default=5, help="Times that each side is measured.")
@click.option("--many", default=100_000, help="Tiny images for the measurement of memory.")
@click.option("--only", type=click.Choice(PARTS), multiple=True)
def main(images: int, rounds: int, many: int, only: tuple[str, ...]) -> None:
    """Measure the client against what it cannot beat, and against the usual way."""
    parts = only or PARTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = folder / "photos"
        make_photos(photos, images)
        if "client" in parts:
            compare_with_decoding(photos, rounds)
        if {"model", "peer", "startup"} & {*parts}:
            model = export_model(folder / "bench")
            serve = (sys.executable, "-m", "classify_serving", str(model), "--port", "0", "--until-stdin-closes")
            with server(*serve) as at:
                if "model" in parts:
                    compare_with_model(model, photos, at, rounds)
                if "peer" in parts:
                    compare_with_peer(photos, at, rounds, min(200, images))
                if "startup" in parts:
                    measure_startup(photos, at, rounds)
        if "memory" in parts:
            measure_memory(folder, many)


def make_photos(folder: Path, count: int) -> None:
    """500 x 375 JPEGs: random crops of scikit-learn's two photographs, turned brighter or darker."""
    from sklearn.datasets import load_sample_images

    rng, originals = np.random.default_rng(1), load_sample_images().images
    folder.mkdir()
    for number in range(count):
        photo = Image.fromarray(originals[number % len(originals)])
        width = int(rng.integers(400, 560))
        height = width * 375 // 500
        left, top = int(rng.integers(photo.width - width)), int(rng.integers(photo.height - height))
        crop = photo.crop((left, top, left + width, top + height)).resize((500, 375))
        ImageEnhance.Brightness(crop).enhance(rng.uniform(0.7, 1.3)).save(folder / f"{number:05}.jpg", quality=90)


def bench_metadata(size: int) -> ModelMetadata:
    """Of a model of eight classes that takes images of this side."""
    return ModelMetadata(
        schema_version=SCHEMA_VERSION, model_name="bench", model_version=1,
        class_names=tuple(f"class {number}" for number in range(8)), merges={}, image_size=size, resize="stretch",
        precision="float32", train_counts_before={}, train_counts_after={}, test_metrics={}, dataset_fingerprint="",
        tensorflow_version="", keras_version="", created="",
    )  # fmt: skip


def export_model(folder: Path) -> Path:
    """A VGG16 of random weights."""
    import_tensorflow()
    from classify_training.export.saved_model import export
    from classify_training.model.classifier import build_classifier

    metadata = bench_metadata(SIZE)
    sample = np.random.default_rng(1).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    return export(build_classifier(len(metadata.class_names), SIZE, "random"), metadata, sample, folder)


@contextmanager
def server(*command: str) -> Iterator[str]:
    """Run a server; gives its address, the last word that it prints first."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def null_server(size: int) -> Any:
    """A server that answers at once."""
    return server(sys.executable, str(HERE / "null_server.py"), bench_metadata(size).to_json().decode())


def run(command: Sequence[str]) -> Run:
    """Run a program to its end."""
    done = subprocess.run([sys.executable, "-c", _MEASURE, *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} ended with {done.returncode}")
    stdout, _, measured = done.stdout.strip().rpartition("\n")
    seconds, peak = json.loads(measured)
    return Run(stdout, seconds, peak / 1024)


def client(images: Path, address: str, *options: str) -> tuple[Run, dict[str, Any]]:
    """Run classify-client; gives its summary as well."""
    with tempfile.TemporaryDirectory() as output:
        program = [str(Path(sys.executable).with_name("classify-client")), str(images), "--output", output]
        done = run([*program, "--server", address, "--model", "bench", "--quiet", *options])
        return done, json.loads((Path(output) / "summary.json").read_text())


def client_rate(images: Path, address: str) -> float:
    """images/s of a run, all but the start of Python."""
    return float(client(images, address)[1]["images_per_second"])


def side_by_side(rounds: int, *sides: Callable[[], float]) -> list[float]:
    """Medians of measurements that take turns, because the speed of a machine drifts."""
    rates = [[side() for side in sides] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*rates, strict=True)]


def compare_with_decoding(photos: Path, rounds: int) -> None:
    """The client alone: its rate against the bare work that it cannot avoid."""
    paths = sorted(photos.iterdir())

    def bare() -> float:
        def decode(path: Path) -> NDArray[np.uint8]:
            with Image.open(path) as image:
                image.draft(None, (SIZE, SIZE))
                return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=2.0))

        start = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(decode, paths):
                pass
        return len(paths) / (time.perf_counter() - start)

    with null_server(SIZE) as address:
        decoding, whole = side_by_side(rounds, bare, lambda: client_rate(photos, address))
    table("Client alone, against a server that answers at once", ("", "images/s", "of the bare loop"), [
        (f"bare loop of Pillow, {THREADS} threads", f"{decoding:.0f}", ""),
        ("classify-client", f"{whole:.0f}", f"{whole / decoding:.2f}"),
    ])  # fmt: skip


def compare_with_model(model: Path, photos: Path, address: str, rounds: int) -> None:
    """End to end against the model in this process on batches that lie ready."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(model))
    signature = loaded.signatures[SERVING_DEFAULT]
    images = np.stack([decode_image(path, SIZE) for path in sorted(photos.iterdir())])
    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]

    def in_process() -> float:
        start = time.perf_counter()
        for batch in batches:
            for value in signature(images=tf.constant(batch)).values():
                value.numpy()
        return sum(map(len, batches)) / (time.perf_counter() - start)

    in_process()
    bare, whole = side_by_side(rounds, in_process, lambda: client_rate(photos, address))
    table("End to end", ("", "images/s", "of in-process"), [
        ("SavedModel in-process, ready-made batches", f"{bare:.1f}", ""),
        ("classify-client and classify-serve", f"{whole:.1f}", f"{whole / bare:.2f}"),
    ])  # fmt: skip


def compare_with_peer(photos: Path, address: str, rounds: int, limit: int) -> None:
    """Against one image a request with TensorFlow's messages."""
    peers, ours, firsts = [], [], []
    for _ in range(rounds):
        peers.append(run([sys.executable, str(HERE / "peer.py"), address, "bench", str(SIZE), str(photos), str(limit)]))
        ours.append(client(photos, address, "--limit", str(limit)))
        firsts.append(client(photos, address, "--limit", "1")[0].seconds)
    told = [json.loads(peer.stdout.splitlines()[-1]) for peer in peers]
    median = statistics.median
    table(f"The usual way, {limit} images", ("", "first answer", "images/s", "whole run", "peak memory"), [
        ("one image a request, tensorflow", f"{median(each['first'] for each in told):.1f} s",
         f"{median(each['rate'] for each in told):.1f}", f"{median(peer.seconds for peer in peers):.1f} s",
         f"{median(peer.peak for peer in peers):.0f} MB"),
        ("classify-client", f"{median(firsts):.1f} s",
         f"{median(summary['images_per_second'] for _, summary in ours):.1f}",
         f"{median(done.seconds for done, _ in ours):.1f} s", f"{median(done.peak for done, _ in ours):.0f} MB"),
    ])  # fmt: skip


def measure_startup(photos: Path, address: str, rounds: int) -> None:
    """From the command to its help, and to the end of a run of one image on a warm server."""
    program = str(Path(sys.executable).with_name("classify-client"))
    usage = statistics.median(run([program, "--help"]).seconds for _ in range(3 * rounds))
    one = statistics.median(client(photos, address, "--limit", "1")[0].seconds for _ in range(rounds))
    table("Start", ("", "seconds"), [("--help", f"{usage:.3f}"), ("one image classified", f"{one:.2f}")])


def measure_memory(folder: Path, many: int) -> None:
    """Peak memory over few and many images."""
    rows = []
    content = tiny_png(folder / "tiny.png")
    with null_server(16) as address:
        for count in (1000, many):
            images = folder / f"tiny{count}"
            for place in range(count):
                path = images / f"{place // 1000:04}" / f"{place:06}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            done, summary = client(images, address)
            rows.append((f"{count:,} images", f"{done.peak:.0f} MB", f"{summary['images_per_second']:.0f}"))
    table("Peak memory, images of 16 x 16", ("", "peak memory", "images/s"), rows)


def tiny_png(path: Path) -> bytes:
    """The content of a small image."""
    Image.new("RGB", (16, 16), (200, 30, 30)).save(path)
    return path.read_bytes()


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
