"""Every REST request, however malformed, gets a JSON answer with the right status, and no traceback is printed."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from saved_models import save_model
from server_support import FailingModel, servable_of
from support import lowest_peak
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from classify_serving.server.errors import RequestError
from classify_serving.server.models.registry import Models
from classify_serving.server.rest.budget import parsed_size
from classify_serving.server.rest.json_tensors import inputs_from_json
from classify_serving.server.rest.server import MAX_CONNECTIONS, RestServer
from classify_serving.server.servable import load_servable

PREDICT = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\n"
STATUS = b"GET /v1/models/m HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "m", 3).parent


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with RestServer(Models(load_servable(folder)), "127.0.0.1", 0, max_request_mb=1) as server:
        yield server.address


@pytest.fixture(scope="module")
def impatient(folder: Path) -> Iterator[str]:
    with RestServer(Models(load_servable(folder)), "127.0.0.1", 0, idle_seconds=1) as server:
        yield server.address


@pytest.fixture(autouse=True)
def _silence(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert capfd.readouterr().err == ""
    assert all(record.exc_info is None for record in caplog.records)


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def read(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    response = HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


def ask(address: str, request: bytes) -> tuple[int, dict[str, Any]]:
    with closing(connect(address)) as connection:
        connection.sendall(request)
        return read(connection)


def post(address: str, body: bytes, path: bytes = b"/v1/models/m:predict") -> tuple[int, dict[str, Any]]:
    return ask(address, b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body))


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        (b"Content-Length: abc", 400, "invalid Content-Length: abc"),
        (b"Content-Length: -1", 400, "invalid Content-Length: -1"),
        (b"Content-Length: \xb2", 400, "invalid Content-Length"),
        (b"Content-Length: 1000000000000000000", 413, "larger than 1048576 bytes"),
        (b"Content-Length: " + b"9" * 5000, 413, "larger than 1048576 bytes"),
        (b"Content-Length: 1048577", 413, "larger than 1048576 bytes"),
        (b"Content-Length: 2\r\nContent-Length: 3", 400, "invalid Content-Length"),
        (b"Accept: */*", 411, "no Content-Length"),
        (b"Transfer-Encoding: chunked", 411, "chunked bodies are not supported"),
        (b"Expect: 100-continue\r\nContent-Length: 1048577", 413, "larger than 1048576 bytes"),
        (b"\r\n".join(b"X-%d: y" % number for number in range(101)), 431, "Too many headers"),
        (b"X: " + b"y" * 70_000, 431, "Line too long"),
    ],
)
def test_headers_that_cannot_be_used_get_an_answer(address: str, headers: bytes, status: int, reason: str) -> None:
    answer = ask(address, PREDICT + headers + b"\r\n\r\n")
    assert answer[0] == status
    assert reason in answer[1]["error"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1", 414),
        (b"PUT /v1/models/m HTTP/1.1", 501),
        (b"GET /v1/models/m HTTP/9.9", 505),
        (b"GET /v1/models/m HTTP/x", 400),
        (b"\xff\xfe a b c", 400),
    ],
)
def test_a_request_line_that_cannot_be_used_gets_an_answer(address: str, line: bytes, status: int) -> None:
    answer = ask(address, line + b"\r\nHost: x\r\n\r\n")
    assert answer[0] == status
    assert answer[1]["error"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}", "cannot be converted"),
        (b'{"signature_name": "raw", "instances": ' + b"[" * 900 + b"]" * 900 + b"}", "cannot be converted"),
        (b'{"signature_name": ["raw"], "instances": [1]}', "'signature_name' key must be a string value."),
        (b'{"signature_name": {}, "instances": [1]}', "'signature_name' key must be a string value."),
        (b'{"signature_name": "\\ud800", "instances": [1]}', "not found"),
        (b'{"signature_name": "raw", "instances": ["\\ud800"]}', "cannot be converted"),
        (b'{"signature_name": "raw", "instances": [{"b64": [1]}]}', "cannot be converted"),
        (b'{"instances": [1' + b"0" * 5000 + b"]}", "JSON Parse error"),
        (b'{"instances": [' + b"1," * 1000 + b"1]}", "is larger than maximum input batch size 1000"),
        (b'{"inputs": {}}', "Missing but required: {x}"),
        (b"\xff\xfe\x00", "JSON Parse error"),
        (b"null", "not a JSON object"),
        (b"", "JSON Parse error"),
    ],
)
def test_a_body_that_is_no_request_is_refused(address: str, body: bytes, reason: str) -> None:
    status, content = post(address, body)
    assert status == 400
    assert reason in content["error"]


@pytest.mark.parametrize("version", [b"9" * 19, b"9" * 10_000, str(2**63).encode()])
def test_a_version_that_is_too_long_is_refused(address: str, version: bytes) -> None:
    for path in (b"/v1/models/m/versions/" + version + end for end in (b"", b"/metadata")):
        status, content = ask(address, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == 400
        assert "Failed to convert version" in content["error"]
    assert post(address, b"{}", b"/v1/models/m/versions/" + version + b":predict")[0] == 400


def test_a_refused_body_is_answered_while_it_is_sent(address: str) -> None:
    with closing(connect(address)) as connection:
        connection.sendall(PREDICT + b"Content-Length: 3000000\r\n\r\n")
        connection.sendall(bytes(3_000_000))
        assert read(connection)[0] == 413


def test_a_connection_is_used_again_after_a_refusal_with_a_body(address: str) -> None:
    with closing(connect(address)) as connection:
        connection.sendall(PREDICT + b"Content-Length: 4\r\n\r\nnull")
        assert read(connection)[0] == 400
        connection.sendall(STATUS)
        assert read(connection)[0] == 200


def test_a_body_that_does_not_arrive_is_answered(impatient: str) -> None:
    answer = ask(impatient, PREDICT + b"Content-Length: 5\r\n\r\n")
    assert answer == (408, {"error": "the body did not arrive in time"})


def test_an_idle_connection_is_closed_even_if_it_sends_a_little(impatient: str) -> None:
    with closing(connect(impatient)) as connection, suppress(ConnectionError):
        deadline = time.monotonic() + 60
        connection.sendall(PREDICT)
        connection.settimeout(0.1)
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                assert connection.recv(1) == b""
                return
            connection.sendall(b"X")
        pytest.fail("the connection is still open")


def test_connections_are_limited(folder: Path) -> None:
    with RestServer(Models(load_servable(folder)), "127.0.0.1", 0) as server, ExitStack() as stack:
        opened = [stack.enter_context(closing(connect(server.address))) for _ in range(MAX_CONNECTIONS)]
        for connection in opened:
            connection.sendall(STATUS)
            assert read(connection)[0] == 200
        assert ask(server.address, STATUS) == (
            503,
            {"error": f"the server has {MAX_CONNECTIONS} connections already: try again later"},
        )
        opened[0].close()
        deadline = time.monotonic() + 20
        while ask(server.address, STATUS)[0] == 503:
            assert time.monotonic() < deadline


def test_bodies_of_all_connections_share_their_memory(folder: Path) -> None:
    body = b"null" + b" " * (2**20 - 4)
    announced = PREDICT + b"Content-Length: %d\r\n\r\n" % len(body)
    models = Models(load_servable(folder))
    with RestServer(models, "127.0.0.1", 0, threads=2, max_request_mb=1) as server, ExitStack() as stack:
        opened = [stack.enter_context(closing(connect(server.address))) for _ in range(2)]
        for connection in opened:
            connection.sendall(announced + body[:4])
        deadline = time.monotonic() + 20
        while post(server.address, body)[0] != 503:
            assert time.monotonic() < deadline
        with closing(connect(server.address)) as third:
            third.sendall(announced)
            response = HTTPResponse(third)
            response.begin()
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert "no memory for another request" in json.loads(response.read())["error"]
        assert ask(server.address, STATUS)[0] == 200, "a request without a body needs none of that memory"
        for connection in opened:
            connection.sendall(body[4:])
            assert read(connection)[0] == 400
        assert post(server.address, body)[0] == 400, "the memory is free again"


def test_the_memory_for_the_values_of_json_is_bounded(folder: Path) -> None:
    models = Models(load_servable(folder))
    many = json.dumps({"instances": [1] * 100_000}).encode()
    with RestServer(models, "127.0.0.1", 0, max_parsed=2**20) as server:
        status, content = post(server.address, many)
        assert status == 413
        assert "send pixels over gRPC" in content["error"]
        assert ask(server.address, STATUS)[0] == 200
    with RestServer(models, "127.0.0.1", 0) as server:
        assert post(server.address, many)[0] == 400


@pytest.mark.parametrize(
    "item", ["1", "0.5", "12345678", "-1e9", "[]", "[[1]]", '{"b64":"AAAA"}', "{}", '"é"', '"😀"', "true"]
)
def test_the_values_of_json_need_no_more_memory_than_assumed(item: str) -> None:
    body = bytearray(f'{{"instances": [{",".join([item] * 20_000)}]}}'.encode())
    signature = SignatureDef(inputs={"x": {"dtype": 1, "tensor_shape": {"dim": [{"size": -1}]}}})

    def parse() -> None:
        with suppress(RequestError):
            inputs_from_json(json.loads(body), signature)

    assert lowest_peak(parse) < parsed_size(body) + 100_000


def test_a_client_that_stops_sending_is_cut_off(impatient: str) -> None:
    answer = ask(impatient, PREDICT + b"Content-Length: 100000000\r\n\r\n" + bytes(1000))
    assert answer == (408, {"error": "the body did not arrive in time"})


def test_an_unexpected_error_of_the_model_is_status_500() -> None:
    servable = servable_of(FailingModel(ValueError("first\nsecond")))
    pixels = json.dumps({"instances": [[[[0, 0, 0]] * 8] * 8]}).encode()
    with RestServer(Models(servable), "127.0.0.1", 0) as server:
        answer = post(server.address, pixels, b"/v1/models/classifier:predict")
    assert answer == (500, {"error": "ValueError: first second"})


def test_the_metadata_is_tensorflow_servings(address: str) -> None:
    for path in (b"/v1/models/m/metadata", b"/v1/models/m/versions/3/metadata"):
        status, content = ask(address, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == 200
        assert content["model_spec"] == {"name": "m", "signature_name": "", "version": "3"}
        signatures = content["metadata"]["signature_def"]["signature_def"]
        assert set(signatures) == {"serving_default", "raw"}
        signature = signatures["serving_default"]
        assert signature["method_name"] == "tensorflow/serving/predict"
        assert signature["inputs"]["x"] == {
            "dtype": "DT_FLOAT",
            "name": "serving_default_x:0",
            "tensor_shape": {"dim": [{"name": "", "size": "-1"}], "unknown_rank": False},
        }
    assert ask(address, b"GET /v1/models/m/versions/4/metadata HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 404
    assert ask(address, b"GET /v1/models/x/metadata HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 404
    assert post(address, b"{}", b"/v1/models/m/metadata")[0] == 400
