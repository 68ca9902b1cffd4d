"""How fast a model is in float32, bfloat16 and with 8-bit integers, in-process: `make bench-precisions`.

Each number format has a process of its own, since TensorFlow rewrites graphs for a whole process. They take turns,
because the machine's speed changes over time. Printed as Markdown; docs/benchmarks.md says what came out.
"""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from bench.inference.exported_models import FLOAT32, export_versions
from bench.inference.in_process import InProcess, in_openvino, in_tensorflow
from classify_serving.tensorflow_import import import_tensorflow

ROUNDS = 5


@click.command()
@click.option("--size", "sizes", multiple=True, type=int, default=(32, 64, 128, 224))
@click.option("--batch", "batches", multiple=True, type=int, default=(1, 8, 32, 64))
@click.option("--rounds", type=int, default=ROUNDS)
@click.option("--openvino", help="A Python interpreter that has openvino and nncf, to compare with their runtime.")
def main(sizes: tuple[int, ...], batches: tuple[int, ...], rounds: int, openvino: str | None) -> None:
    """Print images per second and per CPU second, and their ratios to float32, as medians."""
    import_tensorflow()
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            versions = export_versions(Path(folder), size)
            workers = {name: stack.enter_context(in_tensorflow(version)) for name, version in versions.items()}
            for name in versions if openvino else ():
                worker = in_openvino(str(openvino), versions[FLOAT32], name)
                workers[f"OpenVINO {name}"] = stack.enter_context(worker)
            if size == sizes[0]:
                _print_header(list(workers))
            for batch in batches:
                _measure(size, batch, rounds, workers)


def _print_header(names: Sequence[str]) -> None:
    reference, *others = names
    cells = ["image size", "batch", f"{reference}, images/s", *others, *(f"{name} by CPU seconds" for name in others)]
    print(f"| {' | '.join(cells)} |\n{'|---' * len(cells)}|", flush=True)


def _measure(size: int, batch: int, rounds: int, workers: Mapping[str, InProcess]) -> None:
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
    for worker in workers.values():
        worker.rates(size, batch)
    for _ in range(rounds):
        for name, worker in workers.items():
            rates[name].append(worker.rates(size, batch))
    float32, *others = rates.values()
    cells = [f"{statistics.median(wall for wall, _ in float32):.1f}"]
    for kind in (0, 1):
        for other in others:
            ratios = [own[kind] / reference[kind] for own, reference in zip(other, float32, strict=True)]
            cells.append(f"{statistics.median(ratios):.2f}x")
    print(f"| {size} | {batch} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
