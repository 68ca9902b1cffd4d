"""What serving costs: the embedded server against the same SavedModel called in this process. `make bench-serve`."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from classify_serving.contract import IMAGES, SERVING_DEFAULT, ModelMetadata
from classify_serving.quiet import import_tensorflow
from classify_serving.tensors import to_tensor
from classify_serving.wire_pb2 import ModelSpec, PredictRequest, PredictResponse

SIZE, BATCH = 128, 32
ROUNDS, BATCHES = 5, 8
SINGLES = 200

Predict = Callable[[PredictRequest], PredictResponse]


def main() -> None:
    """Print throughput and latency as Markdown."""
    import_tensorflow()
    images = np.random.default_rng(1).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        model = _export(Path(folder) / "bench", images)
        direct = _in_process(model, images)
        print(f"SavedModel in-process, batches of {BATCH}: {direct:.1f} images/s\n")
        print("| concurrent clients | images/s | of in-process |")
        print("|---|---|---|", flush=True)
        with _server(model) as predict:
            for clients in (1, 2, 4, 8):
                rate = _throughput(predict, images, clients)
                print(f"| {clients} | {rate:.1f} | {rate / direct:.2f} |", flush=True)
            p50, p99 = _latency(predict, images[:1])
            print(f"\none image at a time: p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms")
        # The machine's speed drifts; what frames the rest says by how much.
        print(f"in-process again: {_in_process(model, images):.1f} images/s")


def _export(folder: Path, images: NDArray[np.uint8]) -> Path:
    from classify_training.export import export
    from classify_training.model import build_classifier

    names = tuple(f"class {number}" for number in range(8))
    metadata = ModelMetadata(
        schema_version=1, model_name=folder.name, model_version=1, class_names=names, merges={}, image_size=SIZE,
        resize="stretch", precision="float32", train_counts_before={}, train_counts_after={}, test_metrics={},
        dataset_fingerprint="", tensorflow_version="", keras_version="", created="",
    )  # fmt: skip
    return export(build_classifier(len(names), SIZE, "random"), metadata, images, folder)


def _in_process(version: Path, images: NDArray[np.uint8]) -> float:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(version))
    classify = loaded.signatures[SERVING_DEFAULT]

    def run() -> None:
        for value in classify(images=tf.constant(images)).values():
            value.numpy()

    run()

    def repeatedly() -> None:
        for _ in range(BATCHES):
            run()

    return _rate(repeatedly, BATCHES * len(images))


@contextmanager
def _server(version: Path) -> Iterator[Predict]:
    command = [sys.executable, "-m", "classify_serving", str(version), "--port", "0", "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(address, options) as channel:
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


def _throughput(predict: Predict, images: NDArray[np.uint8], clients: int) -> float:
    def client(_: int) -> None:
        for _ in range(BATCHES // clients):
            predict(_request(images))

    with ThreadPoolExecutor(clients) as pool:
        return _rate(lambda: list(pool.map(client, range(clients))), BATCHES * len(images))


def _latency(predict: Predict, image: NDArray[np.uint8]) -> tuple[float, float]:
    seconds = []
    for _ in range(SINGLES):
        start = time.perf_counter()
        predict(_request(image))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), float(np.percentile(seconds, 99))


def _rate(run: Callable[[], object], images: int) -> float:
    """Median images/s."""
    rates = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        rates.append(images / (time.perf_counter() - start))
    return statistics.median(rates)


if __name__ == "__main__":
    main()
