"""Small real SavedModels, made in a moment: their answers say how they were asked."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest


def save_model(folder: Path, version: int, wait: float = 0.0) -> Path:
    """Write `folder/version`, whose `serving_default` takes `x` float32 [N], `raw` takes `image_bytes` string [N].

    Args:
        folder: the model's folder.
        version: its number, also the output `version`.
        wait: seconds that a batch takes.

    Returns:
        The version's folder. Outputs of `serving_default`, [N] each: `double`, `version`, and `batch`, how many
        values were run together.
    """
    module = tf.Module()

    def run(x: tf.Tensor) -> dict[str, tf.Tensor]:
        if wait:
            # A loop that cannot be optimised away: kernels that sleep are not part of SavedModels.
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
    # Beside its place and renamed, as an export is.
    path = folder / str(version)
    tf.saved_model.save(module, str(folder / f".{version}"), signatures=signatures)
    (folder / f".{version}").rename(path)
    return path


def ask_for(values: list[float], name: str) -> PredictRequest:
    """A request of `serving_default`."""
    inputs = {"x": tf.make_tensor_proto(np.array(values, np.float32))}
    return PredictRequest(model_spec={"name": name}, inputs=inputs)
