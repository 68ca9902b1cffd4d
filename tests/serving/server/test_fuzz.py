"""Random requests always get an answer: never UNKNOWN, never a dropped connection, never a traceback.

The inputs are the same in every run. `make fuzz` searches longer, with new ones.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.client import HTTPResponse
from typing import Any
from urllib.parse import quote

import grpc
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from saved_models import save_model
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from classify_serving.server.models.registry import Models
from classify_serving.server.rest.server import RestServer
from classify_serving.server.servable import load_servable
from classify_serving.server.server import ModelServer

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""Number of new inputs for each test; 0: a few, the same in every run."""

BOUNDED = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

VALID = [
    PredictRequest(
        model_spec={"name": "m"} | choice,
        inputs={"x": tf.make_tensor_proto([1.0, 2.0], tf.float32)},
        output_filter=["double"],
    ).SerializeToString()
    for choice in ({"version": {"value": 3}}, {"version_label": "stable"})
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
EXPECTED = [
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
]
CHOICES = st.one_of(
    st.just({}),
    st.builds(lambda number: {"version": {"value": number}}, st.integers(-(2**63), 2**63 - 1) | st.just(3)),
    st.builds(lambda label: {"version_label": label}, st.sampled_from(["stable", "late"]) | TEXT),
)
"""Of a version: none, a number or a label."""
SIZES = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))
FLOAT, STRING = 1, 7
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just({"b64": "AAAA"}),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["x", "b64", "image_bytes", "y"]), inner),
    max_leaves=15,
)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """The method `Predict`, which takes and returns bytes, and the address of REST, for the same model.

    It has two versions, a label for one of them and a label for a version that is not loaded.
    """
    folder = tmp_path_factory.mktemp("models") / "m"
    models = Models(*(load_servable(save_model(folder, version)) for version in (3, 4)))
    models.current = {"m": replace(models.current["m"], labels={"stable": 3, "late": 9})}
    with (
        ModelServer(models) as server,
        RestServer(server.models, "127.0.0.1", 0) as rest,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield channel.unary_unary("/tensorflow.serving.PredictionService/Predict"), rest.address


@pytest.fixture(autouse=True)
def _silence(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert "Traceback" not in capfd.readouterr().err
    assert not caplog.records, "an unexpected error was logged"


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with some bytes replaced, removed, inserted or repeated."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 4))] = draw(st.binary(max_size=6))
    return bytes(data)


@st.composite
def tensors(draw: st.DrawFn) -> bytes:
    """A request whose tensor has any shape and values, and in most cases the name and type that the model expects."""
    signature, alias, dtype = draw(
        st.sampled_from([("", "x", FLOAT), ("raw", "image_bytes", STRING), ("raw", "x", FLOAT), ("none", "x", FLOAT)])
    )
    values = {
        "tensor_content": st.binary(max_size=16),
        "float_val": st.lists(st.floats(width=32), max_size=3),
        "string_val": st.lists(st.binary(max_size=5), max_size=3),
        "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    }
    tensor: dict[str, Any] = {
        field: draw(values[field]) for field in draw(st.sets(st.sampled_from(sorted(values)), max_size=2))
    }
    tensor["dtype"] = draw(st.one_of(st.just(dtype), st.integers(0, 130)))
    rank = draw(st.sampled_from([1, 1, 1, 0, 2, 3]))
    tensor["tensor_shape"] = {"dim": [{"size": draw(SIZES)} for _ in range(rank)]}
    spec = {"name": "m", "signature_name": signature} | draw(CHOICES)
    request = PredictRequest(model_spec=spec, inputs={alias: tensor})
    return bytes(request.SerializeToString())


@given(content=st.one_of(st.binary(max_size=60), st.sampled_from(VALID).flatmap(mutated), tensors()))
@BOUNDED
def test_grpc_always_answers(servers: tuple[Any, str], content: bytes) -> None:
    answer = servers[0].future(content, timeout=20)
    assert answer.code() in EXPECTED, f"{answer.code()}: {answer.details()}"


PATHS = st.one_of(
    st.builds(
        lambda version, action: b"/v1/models/m" + version + action,
        st.sampled_from([b"", b"/versions/3", b"/versions/5", b"/labels/stable", b"/labels/late", b"/labels/%ff%00"]),
        st.sampled_from([b"", b":predict", b"/metadata"]),
    ),
    mutated(b"/v1/models/m/versions/3:predict"),
    mutated(b"/v1/models/m/labels/%73table:predict"),
    st.builds(lambda label: f"/v1/models/m/labels/{quote(label, safe='')}/metadata".encode(), TEXT),
)
REQUESTS = st.builds(
    lambda signature, key, value: json.dumps({"signature_name": signature, key: value}).encode(),
    st.one_of(st.sampled_from(["raw", "serving_default"]), JSON),
    st.sampled_from(["instances", "inputs"]),
    JSON,
)
BODIES = st.one_of(
    REQUESTS, mutated(b'{"signature_name": "raw", "instances": [{"b64": "AAAA"}]}'), st.binary(max_size=60)
)
HEADERS = st.lists(
    st.one_of(
        mutated(b"Content-Length: 12"),
        mutated(b"Transfer-Encoding: chunked"),
        mutated(b"Expect: 100-continue"),
        st.binary(max_size=30),
    ),
    max_size=3,
)


def answered(address: str, request: bytes) -> None:
    host, _, port = address.rpartition(":")
    with closing(socket.create_connection((host, int(port)), timeout=20)) as connection:
        connection.sendall(request)
        # The server sees the end of the request at once, and does not wait for a body that never comes.
        connection.shutdown(socket.SHUT_WR)
        response = HTTPResponse(connection)
        response.begin()
        content = response.read()
        assert response.status < 500 or response.status in (501, 505), content
        assert isinstance(json.loads(content), dict)


def request(method: bytes, path: bytes, headers: list[bytes], body: bytes) -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: x", *headers]) + b"\r\n\r\n" + body


@given(method=st.sampled_from([b"GET", b"POST", b"PUT"]), path=PATHS, headers=HEADERS, body=BODIES)
@BOUNDED
def test_rest_answers_any_path_and_headers(
    servers: tuple[Any, str], method: bytes, path: bytes, headers: list[bytes], body: bytes
) -> None:
    answered(servers[1], request(method, path, headers, body))


@given(body=BODIES)
@BOUNDED
def test_rest_answers_any_body(servers: tuple[Any, str], body: bytes) -> None:
    answered(servers[1], request(b"POST", b"/v1/models/m:predict", [b"Content-Length: %d" % len(body)], body))


@given(content=st.one_of(st.binary(max_size=60), mutated(b"GET /v1/models/m HTTP/1.1\r\nHost: x\r\n\r\n")))
@BOUNDED
def test_rest_answers_what_is_no_http(servers: tuple[Any, str], content: bytes) -> None:
    answered(servers[1], b"GET" + content + b"\r\n\r\n")
