"""Compare the local server with the same SavedModel called inside this process. Run it with `make bench-serve`."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from classify_serving.contract.model import IMAGES, SERVING_DEFAULT, ModelMetadata
from classify_serving.contract.tensors import to_tensor
from classify_serving.contract.wire_pb2 import ModelSpec, PredictRequest, PredictResponse
from classify_serving.tensorflow_import import import_tensorflow

SIZE, BATCH = 128, 32
CLIENTS = (1, 2, 4, 8)
BATCHING = Path(__file__).parents[1] / "serving/config/batching_cpu.config"
ROUNDS, BATCHES = 5, 8
SINGLES = 200

Predict = Callable[[PredictRequest], PredictResponse]


def main() -> None:
    """Measure and print throughput and latency as a Markdown table."""
    import_tensorflow()
    images = np.random.default_rng(1).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        model = _export(Path(folder) / "bench", images)
        unbatched = stack.enter_context(_server(model))
        batched = stack.enter_context(_server(model, "--batching-parameters-file", str(BATCHING)))
        variants = {"SavedModel in-process": _in_process(model, images)}
        for name, predict in (("no batching", unbatched), ("server-side batching", batched)):
            for clients in CLIENTS:
                plural = "" if clients == 1 else "s"
                variants[f"{name}, {clients} client{plural}"] = _clients(predict, images, clients)
        _print_rates(_measure_rates(variants))
        p50, p99 = _measure_latency(unbatched, images[:1])
        print(f"\nSingle images: p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms")


def _measure_rates(variants: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Images/s of each variant in each round; they take turns, because the machine's speed changes over time."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(ROUNDS):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            rates[name].append(BATCHES * BATCH / (time.perf_counter() - start))
    return rates


def _print_rates(rates: dict[str, list[float]]) -> None:
    in_process = next(iter(rates.values()))
    print(f"Batches of {BATCH} images, {SIZE} x {SIZE} pixels; medians of {ROUNDS} rounds\n")
    print("| | images/s | relative to in-process in the same round |")
    print("|---|---|---|")
    for name, values in rates.items():
        ratios = [value / reference for value, reference in zip(values, in_process, strict=True)]
        print(f"| {name} | {statistics.median(values):.1f} | {statistics.median(ratios):.2f} |", flush=True)


def _export(folder: Path, images: NDArray[np.uint8]) -> Path:
    """Export a VGG16 with random weights; returns the version's folder."""
    from classify_training.export.saved_model import export
    from classify_training.model.classifier import build_classifier

    names = tuple(f"class {number}" for number in range(8))
    metadata = ModelMetadata(
        schema_version=1, model_name=folder.name, model_version=1, class_names=names, merges={}, image_size=SIZE,
        resize="stretch", precision="float32", train_counts_before={}, train_counts_after={}, test_metrics={},
        dataset_fingerprint="", tensorflow_version="", keras_version="", created="",
    )  # fmt: skip
    return export(build_classifier(len(names), SIZE, "random"), metadata, images, folder)


def _in_process(version: Path, images: NDArray[np.uint8]) -> Callable[[], object]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(version))
    classify = loaded.signatures[SERVING_DEFAULT]

    def run() -> None:
        for _ in range(BATCHES):
            # Convert the outputs, so that the time includes the computation.
            for value in classify(images=tf.constant(images)).values():
                value.numpy()

    return run


@contextmanager
def _server(version: Path, *options: str) -> Iterator[Predict]:
    """Start `classify-serve`; yields its Predict method."""
    command = [sys.executable, "-m", "classify_serving", str(version), "--port", "0", "--until-stdin-closes", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(address, unlimited) as channel:
            yield channel.unary_unary(
                "/tensorflow.serving.PredictionService/Predict",
                request_serializer=PredictRequest.SerializeToString,
                response_deserializer=PredictResponse.FromString,
            )
        process.terminate()


def _request(images: NDArray[np.uint8]) -> PredictRequest:
    return PredictRequest(
        model_spec=ModelSpec(name="bench", signature_name=SERVING_DEFAULT), inputs={IMAGES: to_tensor(images)}
    )


def _clients(predict: Predict, images: NDArray[np.uint8], clients: int) -> Callable[[], object]:
    """A function with which concurrent clients send `BATCHES` requests in total."""

    def client(_: int) -> None:
        for _ in range(BATCHES // clients):
            predict(_request(images))

    def run() -> None:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(client, range(clients)))

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
