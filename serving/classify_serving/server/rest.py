"""TensorFlow Serving's REST interface for the same model: `:predict` and the model's status.

`POST /v1/models/NAME[/versions/N]:predict` runs a signature; rest_json.py describes the JSON.
`GET /v1/models/NAME[/versions/N]` reports the served version.
An error is `{"error": ...}`, with the HTTP status for its gRPC status as in tensorflow_serving/util/net_http.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from classify_serving.contract.model import SERVING_DEFAULT
from classify_serving.contract.text import error_reason
from classify_serving.server.errors import AddressError, RequestError, invalid_argument
from classify_serving.server.requests import find_signature, model_status, predict
from classify_serving.server.rest_json import inputs_from_json, outputs_to_json
from classify_serving.server.servable import Servable, Servables

_PATH: Final = re.compile(r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+))?(?P<predict>:predict)?")
_HTTP_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class RestServer:
    """An HTTP server with one thread per connection; it listens from its creation until `stop`. A context manager.

    Args:
        servables: the model to serve.
        host: address to listen on.
        port: port to listen on; 0 chooses a free port.

    Raises:
        AddressError: the port is in use, or the host is not an address of this machine.
    """

    def __init__(self, servables: Servables, host: str, port: int) -> None:
        class Handler(_Handler):
            served = servables

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise AddressError(
                f"cannot listen on {host}:{port} ({error_reason(error)}): choose another --rest-port or --host"
            ) from error
        self.address = f"{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new requests, finish the running ones, and close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Servables

    def do_GET(self) -> None:
        """Report the served version."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Run a signature."""
        self._answer("POST")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log no requests: stderr is for messages that an operator should read."""

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, content = 200, _route(self.served.current, method, self.path, body)
        except RequestError as error:
            status, content = _HTTP_STATUS.get(error.code, 500), {"error": str(error)}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _route(servable: Servable, method: str, url_path: str, body: bytes) -> dict[str, Any]:
    path = _PATH.fullmatch(url_path)
    if not path or (method == "POST") != bool(path["predict"]):
        raise invalid_argument(f"Malformed request: {method} {url_path}")
    return _predict(servable, path, body) if method == "POST" else _status(servable, path)


def _status(servable: Servable, path: "re.Match[str]") -> dict[str, Any]:
    request = GetModelStatusRequest()
    _set_model(request.model_spec, path)
    return MessageToDict(model_status(servable, request), preserving_proto_field_name=True)


def _predict(servable: Servable, path: "re.Match[str]", body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
        signature = content.get("signature_name", SERVING_DEFAULT)
    except (ValueError, AttributeError) as error:
        raise invalid_argument(f"JSON Parse error: {error}") from error
    inputs = inputs_from_json(content, find_signature(servable, signature))
    request = PredictRequest(inputs=inputs)
    _set_model(request.model_spec, path)
    request.model_spec.signature_name = signature
    return outputs_to_json(predict(servable, request).outputs, by_row="instances" in content)


def _set_model(spec: Any, path: "re.Match[str]") -> None:
    spec.name = path["name"]
    if path["version"]:
        spec.version.value = int(path["version"])
