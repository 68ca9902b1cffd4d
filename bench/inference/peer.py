"""A simple client of TensorFlow Serving, to compare with: one image per request, messages made with `tensorflow`.

    python -m bench.inference.peer HOST:PORT MODEL IMAGE_SIZE FOLDER [LIMIT]

Prints JSON: `first`, the seconds from the start of this program to the first answer, and `rate`, images/s after that.
"""

import time

START = time.perf_counter()

import json  # noqa: E402
import sys  # noqa: E402
from itertools import islice  # noqa: E402
from pathlib import Path  # noqa: E402

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from PIL import Image  # noqa: E402
from tensorflow_serving.apis.predict_pb2 import PredictRequest  # noqa: E402
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub  # noqa: E402


def main() -> None:
    """Classify the JPEGs in the folder, one after the other, at most LIMIT."""
    address, model, image_size, folder = sys.argv[1:5]
    limit = int(sys.argv[5]) if len(sys.argv) > 5 else None
    stub = PredictionServiceStub(grpc.insecure_channel(address))
    answer_times = []
    for path in islice(sorted(Path(folder).rglob("*.jpg")), limit):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((int(image_size), int(image_size))), np.uint8)[None]
        request = PredictRequest()
        request.model_spec.name = model
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(pixels))
        response = stub.Predict(request, 60)
        assert tf.make_ndarray(response.outputs["top_labels"]).size
        answer_times.append(time.perf_counter())
    rate = (len(answer_times) - 1) / (answer_times[-1] - answer_times[0]) if len(answer_times) > 1 else None
    print(json.dumps({"first": answer_times[0] - START, "rate": rate}))


if __name__ == "__main__":
    main()
