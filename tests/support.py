"""Images, metadata and a model with known answers, for the tests of all parts."""

import gc
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classify_serving.contract import model as contract
from classify_serving.contract.model import ModelMetadata

BRIGHTNESS = {"black": 10, "grey": 128, "white": 245}
"""The classes of `BrightnessModel`, each with a brightness (0-255) in its middle."""


def lowest_peak(function: Callable[[], object], times: int = 5) -> int:
    """Python's largest use of memory while a function runs, in bytes: the lowest of several measurements.

    Threads that earlier tests have left may allocate memory meanwhile, and garbage may wait to be collected.
    """
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(times):
            gc.collect()
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            function()
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
        return min(peaks)
    finally:
        tracemalloc.stop()


def free_port() -> int:
    """A port that is free at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def write_picture(path: Path, brightness: int, size: tuple[int, int] = (40, 40)) -> Path:
    """Write an image of one grey value, 0-255, in the format of the path's extension; gives the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (brightness,) * 3).save(path)
    return path


def make_metadata(**changes: Any) -> ModelMetadata:
    """Metadata of a small model, with the given values changed."""
    values: dict[str, Any] = {
        "schema_version": contract.SCHEMA_VERSION,
        "model_name": "classifier",
        "model_version": 1,
        "class_names": tuple(sorted(BRIGHTNESS)),
        "merges": {},
        "image_size": 8,
        "resize": "stretch",
        "precision": "float32",
        "train_counts_before": {"black": 5, "grey": 3, "white": 5},
        "train_counts_after": {"black": 5, "grey": 5, "white": 5},
        "test_metrics": {"accuracy": 0.9},
        "dataset_fingerprint": "0" * 64,
        "tensorflow_version": "2.21.0",
        "keras_version": "3.12.0",
        "created": "2026-01-01T00:00:00+00:00",
    }
    return ModelMetadata(**(values | changes))


class BrightnessModel:
    """Predicts `black`, `grey` or `white` from the mean brightness.

    Attributes:
        metadata: the model's metadata.
        refuse: a batch that contains an image of this mean brightness fails; None for no such brightness.
        images: number of images received so far, those of failed batches included.
        asked: set when the first batch is received.
        gate: batches are answered only while this is set.
    """

    def __init__(self, metadata: ModelMetadata, refuse: int | None = None) -> None:
        self.metadata = metadata
        self.refuse = refuse
        self.images = 0
        self.asked = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Answer requests to the signatures `metadata` and `serving_default`, as the contract defines them."""
        if signature == contract.METADATA:
            answer = [self.metadata.to_json()] * len(inputs[contract.REQUEST])
            return {contract.JSON: np.array(answer, dtype=np.object_)}
        images = inputs[contract.IMAGES]
        self.asked.set()
        self.gate.wait(120)
        self.images += len(images)
        means = images.mean(axis=(1, 2, 3))
        if self.refuse is not None and np.any(np.abs(means - self.refuse) < 1):
            import tensorflow as tf

            raise tf.errors.InvalidArgumentError(None, None, "this brightness is refused")
        names = list(BRIGHTNESS)
        distances = np.abs(means[:, None] - np.array([BRIGHTNESS[name] for name in names]))
        order = np.argsort(distances, axis=1)
        labels = np.array([[names[i].encode() for i in row] for row in order], dtype=np.object_)
        probabilities = np.tile(np.array([0.7, 0.2, 0.1], np.float32), (len(images), 1))
        unordered = np.take_along_axis(probabilities, np.argsort(order, axis=1), axis=1)
        return {
            contract.PROBABILITIES: unordered,
            contract.TOP_LABELS: labels,
            contract.TOP_PROBABILITIES: probabilities,
        }


class DarkerModel(BrightnessModel):
    """Sees every image at a third of its brightness: it predicts `grey` for white images and `black` for grey ones."""

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As BrightnessModel, with every pixel divided by three."""
        darkened = {name: value // 3 if name == contract.IMAGES else value for name, value in inputs.items()}
        return super().predict(signature, darkened)


def make_signatures(size: int) -> dict[str, Any]:
    """Definitions of the signatures `serving_default` and `metadata`, for images of `size` x `size` pixels."""
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    def tensor(dtype: int, *shape: int) -> dict[str, Any]:
        return {"dtype": dtype, "tensor_shape": {"dim": [{"size": side} for side in shape]}}

    real, byte, string = 1, 4, 7
    return {
        contract.SERVING_DEFAULT: SignatureDef(
            inputs={contract.IMAGES: tensor(byte, -1, size, size, 3)},
            outputs={
                contract.PROBABILITIES: tensor(real, -1, 3),
                contract.TOP_LABELS: tensor(string, -1, 3),
                contract.TOP_PROBABILITIES: tensor(real, -1, 3),
            },
        ),
        contract.METADATA: SignatureDef(
            inputs={contract.REQUEST: tensor(string, -1)}, outputs={contract.JSON: tensor(string, -1)}
        ),
    }


@contextmanager
def serving(model: BrightnessModel) -> Iterator[str]:
    """Serve a model over real gRPC on a free port; yields `host:port`."""
    from classify_serving.server.models.registry import Models
    from classify_serving.server.servable import Servable
    from classify_serving.server.server import ModelServer

    metadata = model.metadata
    servable = Servable(
        metadata.model_name, metadata.model_version, make_signatures(metadata.image_size), model.predict
    )
    with ModelServer(Models(servable)) as server:
        yield server.address
