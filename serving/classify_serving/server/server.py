"""The local gRPC server: it listens as soon as it is created and stops without dropping a request.

Methods, status codes and messages are TensorFlow Serving's, so that a client tested with this server also works with
TensorFlow Serving, which should be used in production.
"""

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from tensorflow_serving.apis.prediction_service_pb2_grpc import add_PredictionServiceServicer_to_server

from classify_serving.server.errors import AddressError
from classify_serving.server.models.registry import Models
from classify_serving.server.services import MalformedMessages, ModelService, PredictionService

DEFAULT_MAX_REQUEST_MB: Final = 128
"""Most megabytes (2**20 bytes) of a request: 128 images of 512 x 512 pixels are 96 MB."""

MAX_WAITING: Final = 1000
"""Requests that wait for a thread; further ones are refused (RESOURCE_EXHAUSTED)."""

_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    # Without its estimate of the bandwidth, gRPC receives 64 KiB of each waiting request, and the rest when a thread is
    # free. With it, it receives megabytes of each.
    ("grpc.http2.bdp_probe", 0),
    # By default, a second server could listen on the same port without an error and would get half of the requests.
    ("grpc.so_reuseport", 0),
)
_HEALTH_NAMES: Final = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")


class ModelServer:
    """A gRPC server for some models; it listens from its creation until `stop`. A context manager.

    Args:
        models: what to serve; loaded and warmed up, so that a listening server is ready. They may be replaced later.
        host: address or host name to listen on.
        port: port to listen on; 0 chooses a free port.
        threads: number of requests processed at the same time. TensorFlow uses all cores for each request; with
            batching, requests are merged only while each of them occupies a thread.
        credentials: for TLS; None means no encryption.
        max_request_mb: larger messages are refused (RESOURCE_EXHAUSTED), in megabytes of 2**20 bytes.

    Attributes:
        models: what answers requests.
        address: `host:port`, with the chosen port.

    Raises:
        AddressError: the port is in use, the host is not an address of this machine, or the certificate is unusable.
    """

    def __init__(
        self,
        models: Models,
        host: str = "127.0.0.1",
        port: int = 0,
        threads: int = 4,
        credentials: grpc.ServerCredentials | None = None,
        max_request_mb: int = DEFAULT_MAX_REQUEST_MB,
    ) -> None:
        self.models = models
        self._server = grpc.server(
            ThreadPoolExecutor(threads, "grpc"),
            interceptors=[MalformedMessages()],
            maximum_concurrent_rpcs=threads + MAX_WAITING,
            options=[*_OPTIONS, ("grpc.max_receive_message_length", max_request_mb * 2**20)],
        )
        add_PredictionServiceServicer_to_server(PredictionService(self.models), self._server)
        add_ModelServiceServicer_to_server(ModelService(self.models), self._server)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.address = f"{host}:{self._listen(f'{host}:{port}', credentials)}"
        for name in _HEALTH_NAMES:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._server.start()

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials:
                bound = self._server.add_secure_port(address, credentials)
            else:
                bound = self._server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise AddressError(
                f"cannot listen on {address}: the port is in use, the host is not an address of this machine, or the"
                " certificate and its key are unusable; check --port, --host and --ssl-config-file"
            )
        return int(bound)

    def stop(self, grace: float = 30.0) -> None:
        """Refuse new requests, wait up to `grace` seconds for the running ones, and close the port."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
