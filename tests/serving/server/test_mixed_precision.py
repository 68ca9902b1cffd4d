"""classify-serve --mixed-precision: the same model in bfloat16, where the processor can, else as before."""

import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from classify_serving.processor import has_bfloat16


def answers(model: Path, images: NDArray[np.uint8], mixed_precision: str) -> tuple[NDArray[np.float32], str]:
    """Probabilities by a server of its own, and what it printed on stderr."""
    command = [sys.executable, "-m", "classify_serving", str(model), "--port", "0", "--until-stdin-closes"]
    command += ["--mixed-precision", mixed_precision]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        with grpc.insecure_channel(server.stdout.readline().split()[-1]) as channel:
            request = PredictRequest(inputs={"images": tf.make_tensor_proto(images)})
            request.model_spec.name = model.name
            found = PredictionServiceStub(channel).Predict(request, timeout=60).outputs["probabilities"]
        _, said = server.communicate(timeout=60)
    return tf.make_ndarray(found), said


def test_a_float32_model_is_computed_in_bfloat16_where_the_processor_can(model: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    float32, _ = answers(model, images, "none")
    bfloat16, said = answers(model, images, "bfloat16")
    difference = np.abs(float32 - bfloat16).max()
    # The client refuses probabilities that have another sum.
    np.testing.assert_allclose(bfloat16.sum(axis=1), 1, atol=1e-5)
    if has_bfloat16():
        assert 0 < difference < 0.02
        assert "answering in float32" not in said
    else:
        assert difference < 1e-5
        assert "answering in float32, because this processor has no instructions for bfloat16" in said
