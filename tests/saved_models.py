"""Small real SavedModels for tests of the server, and files that name them; outputs have version and batch size."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from classify_serving.server.models.config import read_model_config
from classify_serving.server.models.manager import ModelManager

TWO_VERSIONS = "model_version_policy { specific { versions: 1 versions: 2 } }"
TWO_LABELS = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'


def save_model(folder: Path, version: int, wait: float = 0.0) -> Path:
    """Write `folder/version`, whose `serving_default` takes `x` float32 [N], `raw` takes `image_bytes` string [N].

    Args:
        folder: the model's folder.
        version: the version number, also the value of the output `version`.
        wait: seconds that each batch takes.

    Returns:
        The version's folder. Outputs of `serving_default`, [N] each: `double` float32, twice `x`; `version` int32; and
        `batch` int32, the number of values in the batch.
    """
    module = tf.Module()

    def run(x: tf.Tensor) -> dict[str, tf.Tensor]:
        if wait:
            # A loop that cannot be optimised away, because a SavedModel cannot contain Python's sleep.
            rounds = tf.constant(int(wait * 1e5))
            _, x = tf.while_loop(lambda i, x: i < rounds, lambda i, x: (i + 1, x + 0.0), (0, x), parallel_iterations=1)
        size = tf.fill(tf.shape(x), tf.shape(x)[0])
        return {"double": 2 * x, "batch": size, "version": tf.fill(tf.shape(x), version)}

    def lengths(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"length": tf.strings.length(image_bytes)}

    signatures = {
        "serving_default": tf.function(run, input_signature=[tf.TensorSpec([None], tf.float32, "x")], autograph=False),
        "raw": tf.function(lengths, input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")]),
    }
    # Saved under a temporary name and then renamed, as classify-train does it.
    path = folder / str(version)
    tf.saved_model.save(module, str(folder / f".{version}"), signatures=signatures)
    (folder / f".{version}").rename(path)
    return path


def save_three_versions(folder: Path) -> Path:
    """Write the versions 1, 2 and 3 of a model with `save_model`; gives its folder."""
    for version in (1, 2, 3):
        save_model(folder, version)
    return folder


def ask_for(values: list[float], name: str) -> PredictRequest:
    """A request to `serving_default` of the model `name`, with these values of `x`."""
    inputs = {"x": tf.make_tensor_proto(np.array(values, np.float32))}
    return PredictRequest(model_spec={"name": name}, inputs=inputs)


def model_entry(folder: Path, settings: str = "") -> str:
    """One model in the text format of a model configuration file."""
    return f'config {{ name: "{folder.name}" base_path: "{folder}" model_platform: "tensorflow" {settings} }}'


def write_models(path: Path, *entries: str) -> Path:
    """Write a model configuration file."""
    path.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    return path


def start_models(path: Path, allow_labels: bool = True) -> ModelManager:
    """Load what a model configuration file names."""
    manager = ModelManager(allow_unavailable_labels=allow_labels)
    manager.start(read_model_config(path))
    return manager


def answering(channel: grpc.Channel, **spec: Any) -> int:
    """The version that answers; it is the same in the response's `model_spec` and in the model's output."""
    request = ask_for([1.0], "m")
    request.model_spec.MergeFrom(ModelSpec(**spec))
    response = PredictionServiceStub(channel).Predict(request, timeout=20)
    assert tf.make_ndarray(response.outputs["version"]).tolist() == [response.model_spec.version.value]
    return int(response.model_spec.version.value)
