"""Compare the local server with the same SavedModel called in-process, in each number format: `make bench-serve`."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import grpc
import numpy as np
from numpy.typing import NDArray

from bench.inference.exported_models import Version, export_versions
from bench.inference.in_process import in_tensorflow
from bench.inference.servers import model_server
from classify_serving.contract.model import IMAGES, SERVING_DEFAULT
from classify_serving.contract.tensors import to_tensor
from classify_serving.contract.wire_pb2 import ModelSpec, PredictRequest, PredictResponse
from classify_serving.tensorflow_import import import_tensorflow

BATCH = 32
CLIENTS = (1, 2, 4, 8)
BATCHING = Path(__file__).parents[2] / "serving/config/batching_cpu.config"
LEAST_SECONDS = 1.0
SINGLES = 200

Predict = Callable[[PredictRequest], PredictResponse]


@click.command()
@click.option("--size", type=int, default=128)
@click.option("--rounds", type=int, default=5)
@click.option("--precision", "precisions", multiple=True, help="Default: all.")
def main(size: int, rounds: int, precisions: tuple[str, ...]) -> None:
    """Measure and print throughput and latency as Markdown tables."""
    import_tensorflow()
    images = np.random.default_rng(1).integers(0, 256, (BATCH, size, size, 3), np.uint8)
    print(f"Batches of {BATCH} images, {size} x {size} pixels; medians of {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        versions = export_versions(Path(folder), size)
        for precision in precisions or versions:
            _measure(versions[precision], precision, images, rounds)


def _measure(version: Version, precision: str, images: NDArray[np.uint8], rounds: int) -> None:
    with ExitStack() as stack:
        unbatched = stack.enter_context(_server(version))
        batched = stack.enter_context(_server(version, "--batching-parameters-file", str(BATCHING)))
        worker = stack.enter_context(in_tensorflow(version))
        variants: dict[str, Callable[[], float]] = {
            "SavedModel in-process": lambda: worker.rates(images.shape[1], BATCH)[0]
        }
        for name, predict in (("no batching", unbatched), ("server-side batching", batched)):
            for clients in CLIENTS:
                plural = "" if clients == 1 else "s"
                variants[f"{name}, {clients} client{plural}"] = _clients(predict, images, clients)
        _print_rates(precision, _measure_rates(variants, rounds))
        p50, p99 = _measure_latency(unbatched, images[:1])
        print(f"\nSingle images: p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms", flush=True)


def _measure_rates(variants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Images/s of each variant in each round; they take turns, because the machine's speed changes over time."""
    for run in variants.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            rates[name].append(run())
    return rates


def _print_rates(precision: str, rates: dict[str, list[float]]) -> None:
    in_process = next(iter(rates.values()))
    print(f"\n| {precision} | images/s | relative to in-process in the same round |")
    print("|---|---|---|")
    for name, values in rates.items():
        ratios = [value / reference for value, reference in zip(values, in_process, strict=True)]
        print(f"| {name} | {statistics.median(values):.1f} | {statistics.median(ratios):.2f} |", flush=True)


@contextmanager
def _server(version: Version, *options: str) -> Iterator[Predict]:
    """Start `classify-serve`; yields its Predict method."""
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with model_server(version, *options) as address, grpc.insecure_channel(address, unlimited) as channel:
        yield channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )


def _request(images: NDArray[np.uint8]) -> PredictRequest:
    return PredictRequest(
        model_spec=ModelSpec(name="bench", signature_name=SERVING_DEFAULT), inputs={IMAGES: to_tensor(images)}
    )


def _clients(predict: Predict, images: NDArray[np.uint8], clients: int) -> Callable[[], float]:
    """A function with which concurrent clients send requests for a while; it gives images/s."""

    def client(until: float) -> int:
        sent = 0
        while time.perf_counter() < until:
            predict(_request(images))
            sent += len(images)
        return sent

    def run() -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            sent = sum(pool.map(client, [start + LEAST_SECONDS] * clients))
        return sent / (time.perf_counter() - start)

    return run


def _measure_latency(predict: Predict, image: NDArray[np.uint8]) -> tuple[float, float]:
    """Median and 99th percentile of the seconds per request, for one request at a time."""
    seconds = []
    for _ in range(SINGLES):
        start = time.perf_counter()
        predict(_request(image))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), float(np.percentile(seconds, 99))


if __name__ == "__main__":
    main()
