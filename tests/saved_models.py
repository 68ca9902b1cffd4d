"""Small real SavedModels for tests of the server; their outputs contain the version and the batch size."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest


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


def ask_for(values: list[float], name: str) -> PredictRequest:
    """A request to `serving_default` of the model `name`, with these values of `x`."""
    inputs = {"x": tf.make_tensor_proto(np.array(values, np.float32))}
    return PredictRequest(model_spec={"name": name}, inputs=inputs)
