"""A model server without a model that answers immediately, to measure the client alone.

    python -m bench.inference.null_server METADATA

Takes the model's metadata as JSON, prints its address, and serves until standard input ends.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

import grpc
import numpy as np

from classify_serving.contract import model as contract
from classify_serving.contract.tensors import to_tensor
from classify_serving.contract.wire_pb2 import ModelSpec, PredictRequest, PredictResponse

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


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, metadata_json: bytes) -> None:
        metadata = to_tensor(np.array([metadata_json], np.object_))
        spec = ModelSpec(name="bench", version={"value": 1})
        self._metadata = PredictResponse(model_spec=spec, outputs={contract.JSON: metadata}).SerializeToString()

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        return grpc.unary_unary_rpc_method_handler(self._predict) if details.method == METHOD else None

    def _predict(self, content: bytes, context: grpc.ServicerContext) -> bytes:
        request = PredictRequest.FromString(content)
        if request.model_spec.signature_name == contract.METADATA:
            return self._metadata
        return _predictions(request.inputs[contract.IMAGES].tensor_shape.dim[0].size)


def main() -> None:
    """Serve on a free port of this machine until standard input ends."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((_Handler(sys.argv[1].encode()),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
