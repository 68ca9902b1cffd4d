"""Servers that answer with errors, and servers with TLS and tokens."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import trustme
from numpy.typing import NDArray
from support import BrightnessModel, make_metadata, make_signatures
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.prediction_service_pb2_grpc import add_PredictionServiceServicer_to_server

from classify_serving.contract import model as contract
from classify_serving.server.models.registry import Models
from classify_serving.server.servable import Servable
from classify_serving.server.server import ModelServer
from classify_serving.server.services import PredictionService


class FailingModel(BrightnessModel):
    """Raises the next of `errors` for each batch, answers when none is left, and records the size of each batch."""

    def __init__(self, *errors: Exception, **changes: Any) -> None:
        super().__init__(make_metadata(**changes))
        self.errors = list(errors)
        self.batches: list[int] = []

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if signature != contract.METADATA:
            self.batches.append(len(inputs[contract.IMAGES]))
            if self.errors:
                self.asked.set()
                raise self.errors.pop(0)
        return super().predict(signature, inputs)


def servable_of(model: BrightnessModel) -> Servable:
    metadata = model.metadata
    signatures = make_signatures(metadata.image_size)
    return Servable(metadata.model_name, metadata.model_version, signatures, model.predict)


class EmbeddingModel(BrightnessModel):
    """Also has the signature `embed`, and records the sizes of the images that it receives there."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(make_metadata(**changes))
        self.sizes: list[int] = []

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if signature != contract.EMBED:
            return super().predict(signature, inputs)
        self.sizes.append(inputs[contract.IMAGES].shape[1])
        return {contract.EMBEDDING: np.ones((len(inputs[contract.IMAGES]), 512), np.float32)}

    def servable(self) -> Servable:
        """The model with its three signatures."""
        plain = servable_of(self)
        embed = SignatureDef(
            inputs=plain.signatures[contract.SERVING_DEFAULT].inputs,
            outputs={contract.EMBEDDING: {"dtype": 1, "tensor_shape": {"dim": [{"size": -1}, {"size": 512}]}}},
        )
        return replace(plain, signatures={**plain.signatures, contract.EMBED: embed})


def start_server(model: BrightnessModel, address: str = "127.0.0.1:0") -> ModelServer:
    """Serve a model at this address, for example at that of a server that was stopped."""
    host, _, port = address.rpartition(":")
    return ModelServer(Models(servable_of(model)), host, int(port))


@dataclass(frozen=True)
class Keys:
    """PEM files for TLS.

    Attributes:
        ca: certificate of the authority that signed the server's and the client's certificate.
        server: private key and certificate of a server for `localhost` and 127.0.0.1.
        cert: certificate of a client.
        key: its private key.
        other_ca: certificate of another authority, which signed none of these.
        other_key: a private key that does not match `cert`.
    """

    ca: Path
    server: Path
    cert: Path
    key: Path
    other_ca: Path
    other_key: Path

    @property
    def tls(self) -> grpc.ServerCredentials:
        return grpc.ssl_server_credentials([(self.server.read_bytes(), self.server.read_bytes())])

    @property
    def mutual_tls(self) -> grpc.ServerCredentials:
        pair = (self.server.read_bytes(), self.server.read_bytes())
        return grpc.ssl_server_credentials([pair], self.ca.read_bytes(), require_client_auth=True)


def make_keys(folder: Path) -> Keys:
    authority, other = trustme.CA(), trustme.CA()
    server, client = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("client@example.org")
    names = ("ca", "server", "cert", "key", "other_ca", "other_key")
    keys = Keys(**{name: folder / f"{name}.pem" for name in names})
    authority.cert_pem.write_to_path(keys.ca)
    server.private_key_and_cert_chain_pem.write_to_path(keys.server)
    client.cert_chain_pems[0].write_to_path(keys.cert)
    client.private_key_pem.write_to_path(keys.key)
    other.cert_pem.write_to_path(keys.other_ca)
    other.issue_cert("x.example").private_key_pem.write_to_path(keys.other_key)
    return keys


class _TokenCheck(grpc.ServerInterceptor):
    """Refuses calls without the bearer token."""

    def __init__(self, token: str) -> None:
        self._expected = ("authorization", f"Bearer {token}")

    def intercept_service(self, continuation: Callable[..., Any], details: grpc.HandlerCallDetails) -> Any:
        if self._expected in [tuple(pair) for pair in details.invocation_metadata]:
            return continuation(details)

        def refuse(request: object, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

        return grpc.unary_unary_rpc_method_handler(refuse)


@contextmanager
def secure_server(
    model: BrightnessModel, credentials: grpc.ServerCredentials | None, token: str | None = None
) -> Iterator[int]:
    """Serve a model on 127.0.0.1, with TLS and a bearer token if they are given; yields the port."""
    interceptors: list[grpc.ServerInterceptor] = [_TokenCheck(token)] if token else []
    server = grpc.server(ThreadPoolExecutor(4), interceptors=interceptors)
    add_PredictionServiceServicer_to_server(PredictionService(Models(servable_of(model))), server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    yield port
    server.stop(None).wait()
