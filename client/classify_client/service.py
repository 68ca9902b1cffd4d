"""The model server as the client sees it: channel, deadlines, retries, and what its errors mean."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from classify_client.errors import RequestRefused, ServiceError
from classify_serving import contract
from classify_serving.contract import ContractError, ModelMetadata
from classify_serving.tensors import TensorError, from_tensor, to_tensor
from classify_serving.wire_pb2 import ModelSpec, PredictRequest, PredictResponse

_METHOD: Final = "/tensorflow.serving.PredictionService/Predict"

# The one retry rule: UNAVAILABLE is a full queue, or a server starting or restarting, and gRPC repeats the
# request with exponential backoff and jitter. Every other status would only come again.
_SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [{"service": "tensorflow.serving.PredictionService"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # gRPC drops a request from its retry buffer above this size, and images are larger than its 256 KiB.
    ("grpc.per_rpc_retry_buffer_size", 64 * 1024 * 1024),
)


@dataclass(frozen=True)
class Answer:
    """What the model says of a batch of N images.

    Attributes:
        labels: N tuples of K class names, best first.
        probabilities: float32 [N,K], in the same order.
        version: of the model that answered.
    """

    labels: tuple[tuple[str, ...], ...]
    probabilities: NDArray[np.float32]
    version: int


class Service:
    """A model on a server that speaks TensorFlow Serving's Predict; a context manager.

    Args:
        server: `host:port`.
        model: the model's name there.
        timeout: seconds that one request may take, retries included.
    """

    def __init__(self, server: str, model: str, timeout: float) -> None:
        self.server, self.model, self._timeout = server, model, timeout
        self._channel = grpc.insecure_channel(server, options=_OPTIONS)
        self._predict = self._channel.unary_unary(
            _METHOD,
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )

    def metadata(self) -> ModelMetadata:
        """Ask the model what it is.

        Raises:
            ServiceError: no server, no such model, or a model without metadata.
        """
        request = self._request(contract.METADATA, contract.REQUEST, np.array([b""], dtype=np.object_), contract.JSON)
        try:
            response = self._predict(request, timeout=self._timeout)
            return ModelMetadata.from_json(from_tensor(response.outputs[contract.JSON])[0])
        except grpc.RpcError as error:
            raise self._no_metadata(error) from error
        except (ContractError, TensorError, IndexError) as error:
            raise ServiceError(f"the model {self.model} at {self.server} is not one of ours: {error}") from error

    def classify(self, images: NDArray[np.uint8]) -> Callable[[], Answer]:
        """Send uint8 [N,S,S,3] and return at once; the function returned waits for the answer.

        That function raises ServiceError if the server is gone, and RequestRefused if it refuses this batch.
        """
        request = self._request(
            contract.SERVING_DEFAULT, contract.IMAGES, images, contract.TOP_LABELS, contract.TOP_PROBABILITIES
        )
        call = self._predict.future(request, timeout=self._timeout)

        def answer() -> Answer:
            try:
                return _read_answer(call.result(), len(images))
            except grpc.RpcError as error:
                raise self._failure(error) from error
            except TensorError as error:
                raise RequestRefused(f"the answer of {self.server} cannot be read: {error}") from error

        return answer

    def _request(self, signature: str, name: str, value: NDArray[np.generic], *outputs: str) -> PredictRequest:
        return PredictRequest(
            model_spec=ModelSpec(name=self.model, signature_name=signature),
            inputs={name: to_tensor(value)},
            output_filter=outputs,
        )

    def _no_metadata(self, error: grpc.RpcError) -> ServiceError:
        """Nothing has been answered yet, so whatever the server says ends the run."""
        failure = self._failure(error)
        if isinstance(failure, ServiceError):
            return failure
        return ServiceError(
            f"the model {self.model} at {self.server} does not describe itself ({failure}):"
            " export it with classify-train"
        )

    def _failure(self, error: grpc.RpcError) -> ServiceError | RequestRefused:
        """What a gRPC status means for the run: these end it, any other fails one batch."""
        match error.code():
            case grpc.StatusCode.UNAVAILABLE:
                return ServiceError(
                    f"no server answers at {self.server}: start one (TensorFlow Serving, or classify-serve),"
                    " or correct --server"
                )
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return ServiceError(
                    f"the server at {self.server} did not answer within {self._timeout:g} seconds:"
                    " raise --timeout, or lower --batch-size"
                )
            case grpc.StatusCode.NOT_FOUND:
                return ServiceError(f"the server at {self.server} has no model {self.model}: correct --model")
            case grpc.StatusCode.UNIMPLEMENTED:
                return ServiceError(f"what listens at {self.server} is no TensorFlow Serving: correct --server")
        return RequestRefused(f"{error.code().name}: {' '.join((error.details() or '').split())}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()


def _read_answer(response: PredictResponse, count: int) -> Answer:
    labels = from_tensor(response.outputs[contract.TOP_LABELS])
    probabilities = from_tensor(response.outputs[contract.TOP_PROBABILITIES]).astype(np.float32)
    if labels.ndim != 2 or labels.shape != probabilities.shape or len(labels) != count or not labels.size:
        raise TensorError(f"{labels.shape} labels and {probabilities.shape} probabilities for {count} images")
    return Answer(
        labels=tuple(tuple(name.decode("utf-8", "backslashreplace") for name in row) for row in labels),
        probabilities=probabilities,
        version=response.model_spec.version.value,
    )
