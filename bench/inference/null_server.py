"""A model server without a model that answers immediately, to measure the client alone.

    python -m bench.inference.null_server METADATA [SECONDS]

Takes the model's metadata as JSON, prints its address, and serves until standard input ends. With SECONDS, it answers
one batch at a time, and takes so long for each. The signature `times` gives the time of the first batch and of the
last one since it was asked before, as JSON in the output of `metadata`.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final

import grpc
import numpy as np

from classify_serving.contract import model as contract
from classify_serving.contract.tensors import from_tensor, to_tensor
from classify_serving.contract.wire_pb2 import ModelSpec, PredictRequest, PredictResponse

TIMES: Final = "times"
METHOD: Final = "/tensorflow.serving.PredictionService/Predict"


@cache
def _predictions(count: int) -> bytes:
    """The same answer for each of `count` images, as a serialised PredictResponse."""
    labels = np.array([[b"class %d" % rank for rank in range(contract.TOP_K)]] * count, np.object_)
    probabilities = np.full((count, contract.TOP_K), 0.1, np.float32)
    outputs = {contract.TOP_LABELS: to_tensor(labels), contract.TOP_PROBABILITIES: to_tensor(probabilities)}
    return PredictResponse(
        model_spec=ModelSpec(name="bench", version={"value": 1}), outputs=outputs
    ).SerializeToString()


def _json_answer(content: bytes) -> bytes:
    outputs = {contract.JSON: to_tensor(np.array([content], np.object_))}
    return PredictResponse(
        model_spec=ModelSpec(name="bench", version={"value": 1}), outputs=outputs
    ).SerializeToString()


def times_of(address: str) -> tuple[float, float]:
    """When a null server answered its first and its last batch, in seconds since 1970."""
    request = PredictRequest(model_spec=ModelSpec(name="bench", signature_name=TIMES)).SerializeToString()
    with grpc.insecure_channel(address) as channel:
        ask: Any = channel.unary_unary(METHOD)
        answer = PredictResponse.FromString(ask(request))
    first, last = json.loads(from_tensor(answer.outputs[contract.JSON]).ravel()[0])
    return first, last


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, metadata_json: bytes, seconds: float) -> None:
        self._seconds, self._one_at_a_time = seconds, threading.Lock()
        self._metadata = _json_answer(metadata_json)
        self._times: list[float] = []

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        return grpc.unary_unary_rpc_method_handler(self._predict) if details.method == METHOD else None

    def _predict(self, content: bytes, context: grpc.ServicerContext) -> bytes:
        request = PredictRequest.FromString(content)
        if request.model_spec.signature_name == contract.METADATA:
            return self._metadata
        if request.model_spec.signature_name == TIMES:
            first_and_last, self._times = [self._times[0], self._times[-1]], []
            return _json_answer(json.dumps(first_and_last).encode())
        self._times.append(time.time())
        if self._seconds:
            with self._one_at_a_time:
                time.sleep(self._seconds)
        return _predictions(request.inputs[contract.IMAGES].tensor_shape.dim[0].size)


def main() -> None:
    """Serve on a free port of this machine until standard input ends."""
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((_Handler(sys.argv[1].encode(), float(sys.argv[2]) if sys.argv[2:] else 0.0),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
