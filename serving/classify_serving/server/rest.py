"""TensorFlow Serving's REST interface over the same servable: a model's status, and `:predict`.

`POST /v1/models/NAME[/versions/N]:predict` takes `{"signature_name": ..., "instances": [...]}` (one value or object an
image) or `{"inputs": ...}` (whole tensors), with bytes as `{"b64": ...}`, and answers `predictions` or `outputs`;
`GET /v1/models/NAME[/versions/N]` says what is served. Errors are `{"error": ...}` with the HTTP status that stands for
the gRPC one (tensorflow_serving/util/net_http and json_tensor.cc).
"""

import base64
import binascii
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from numpy.typing import NDArray
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from classify_serving.contract.model import SERVING_DEFAULT
from classify_serving.server.servable import Servables
from classify_serving.server.server import AddressError
from classify_serving.server.services import RequestError, model_status, predict

_PATH: Final = re.compile(r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+))?(?P<predict>:predict)?")
_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class RestServer:
    """An HTTP server in threads of its own, listening from construction to `stop`.

    Args:
        servables: what to serve.
        host: address to listen on.
        port: 0 for a free one.

    Raises:
        AddressError: the port is taken or the host is not of this machine.
    """

    def __init__(self, servables: Servables, host: str, port: int) -> None:
        class Handler(_Handler):
            served = servables

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise AddressError(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another --rest-port or --host"
            ) from error
        self.address = f"{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new requests, finish those under way, and close the port."""
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
        """Say which version of a model is served."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Run a signature."""
        self._answer("POST")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: stderr is for what an operator should read."""

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, content = 200, self._route(method, body)
        except RequestError as error:
            status, content = _STATUS.get(error.code, 500), {"error": str(error)}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _route(self, method: str, body: bytes) -> dict[str, Any]:
        path = _PATH.fullmatch(self.path)
        if not path or (method == "POST") != bool(path["predict"]):
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: {method} {self.path}")
        if method == "GET":
            request = GetModelStatusRequest()
            _name_model(request.model_spec, path)
            return MessageToDict(model_status(self.served.current, request), preserving_proto_field_name=True)
        return _predict(self.served, path, body)


def _name_model(spec: Any, path: "re.Match[str]") -> None:
    spec.name = path["name"]
    if path["version"]:
        spec.version.value = int(path["version"])


def _predict(served: Servables, path: "re.Match[str]", body: bytes) -> dict[str, Any]:
    servable = served.current
    try:
        content = json.loads(body)
        signature = content.get("signature_name", SERVING_DEFAULT)
    except (ValueError, AttributeError) as error:
        raise _malformed(f"JSON Parse error: {error}") from error
    if signature not in servable.signatures:
        raise RequestError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
    in_rows = "instances" in content
    if in_rows == ("inputs" in content):
        raise _malformed("Request must have either 'instances' or 'inputs'")
    infos = servable.signatures[signature].inputs
    values = _columns(content["instances"], list(infos)) if in_rows else _named(content["inputs"], list(infos))
    request = PredictRequest()
    _name_model(request.model_spec, path)
    request.model_spec.signature_name = signature
    for alias, value in values.items():
        if alias not in infos:
            raise _malformed(f"no input {alias}: this signature takes {', '.join(sorted(infos))}")
        request.inputs[alias].CopyFrom(_tensor(alias, value, tf.as_dtype(infos[alias].dtype)))
    response = predict(servable, request)
    outputs = {alias: _json_values(tf.make_ndarray(tensor)) for alias, tensor in response.outputs.items()}
    if not in_rows:
        return {"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}
    if len(outputs) == 1:
        return {"predictions": next(iter(outputs.values()))}
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]}


def _columns(rows: Any, aliases: list[str]) -> Mapping[str, Any]:
    """Row by row to input by input: a row is an object of inputs, or the value of the only one."""
    if not isinstance(rows, list) or not rows:
        raise _malformed("'instances' must be a list of at least one value")
    named = [row if isinstance(row, dict) and set(row) != {"b64"} else {aliases[0]: row} for row in rows]
    if any(set(row) != set(named[0]) for row in named):
        raise _malformed("all instances must have the same inputs")
    return {alias: [row[alias] for row in named] for alias in named[0]}


def _named(inputs: Any, aliases: list[str]) -> Mapping[str, Any]:
    return inputs if isinstance(inputs, dict) and set(inputs) != {"b64"} else {aliases[0]: inputs}


def _tensor(alias: str, value: Any, dtype: tf.DType) -> Any:
    try:
        return tf.make_tensor_proto(_decoded(value) if dtype == tf.string else value, dtype)
    except (TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise _malformed(f"input {alias} is no {dtype.name} tensor: {' '.join(str(error).split())[:200]}") from error


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True) if set(value) == {"b64"} else value
    return value


def _json_values(array: NDArray[Any]) -> Any:
    if array.dtype == np.object_:
        return np.vectorize(lambda text: text.decode("utf-8", "backslashreplace"), otypes=[object])(array).tolist()
    return array.tolist()


def _malformed(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
