"""The embedded server's life: listen once the model is there, answer, and stop without dropping a request.

It answers as TensorFlow Serving does (methods, status codes, messages), so that a client proved against it is
right there too; in production, TensorFlow Serving takes its place.
"""

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from tensorflow_serving.apis.prediction_service_pb2_grpc import add_PredictionServiceServicer_to_server

from classify_serving.server.servable import Servable, Servables
from classify_serving.server.services import ModelService, PredictionService

_OPTIONS: Final = (
    # As TensorFlow Serving: no limit of its own on what it receives.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Without this a second server on the same port starts silently and takes half of the requests.
    ("grpc.so_reuseport", 0),
)
_HEALTH_NAMES: Final = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")


class AddressError(Exception):
    """An address that cannot be listened on; one sentence, naming it."""


class ModelServer:
    """A gRPC server over one servable at a time, listening from construction to `stop`; a context manager.

    `servables` holds the one that answers, and may be given another while it runs.

    Args:
        servable: what to serve; it is loaded and warm, so listening means ready.
        host: address or name to listen on.
        port: 0 for a free one.
        threads: requests worked on at once; TensorFlow itself uses all cores for each. With batching, as many as
            there are to be merged.
        credentials: to encrypt and to check clients with; None for neither.

    Raises:
        AddressError: the port is taken or the host is not of this machine.
    """

    def __init__(
        self,
        servable: Servable,
        host: str = "127.0.0.1",
        port: int = 0,
        threads: int = 4,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self.servables = Servables(servable)
        self._server = grpc.server(ThreadPoolExecutor(threads, "grpc"), options=_OPTIONS)
        add_PredictionServiceServicer_to_server(PredictionService(self.servables), self._server)
        add_ModelServiceServicer_to_server(ModelService(self.servables), self._server)
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
                f"cannot listen on {address}: the port is taken, the host is not of this machine,"
                " or the certificate and its key are unusable; see --port, --host and --ssl-config-file"
            )
        return int(bound)

    def stop(self, grace: float = 30.0) -> None:
        """Refuse new requests, finish those under way for up to `grace` seconds, and close the port."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
