"""The REST interface behaves like TensorFlow Serving's; tested with a plain HTTP client."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from saved_models import save_model

from classify_serving.server.errors import AddressError
from classify_serving.server.models.registry import Models
from classify_serving.server.rest.server import RestServer
from classify_serving.server.servable import load_servable


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = save_model(tmp_path_factory.mktemp("models") / "m", 3).parent
    with RestServer(Models(load_servable(folder)), "127.0.0.1", 0) as server:
        yield server.address


def ask(url: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"http://{url}", data, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_status_reports_the_served_version(address: str) -> None:
    status, content = ask(f"{address}/v1/models/m")
    assert status == 200
    (version,) = content["model_version_status"]
    assert (version["version"], version["state"]) == ("3", "AVAILABLE")
    assert ask(f"{address}/v1/models/m/versions/3")[0] == 200
    assert ask(f"{address}/v1/models/other")[0] == 404
    assert ask(f"{address}/v1/models/m/versions/4") == (404, {"error": "Could not find version 4 of model m"})


def test_instances_of_a_single_input_need_no_input_name(address: str) -> None:
    status, content = ask(f"{address}/v1/models/m:predict", {"instances": [1.5, 2]})
    assert status == 200
    assert content["predictions"] == [
        {"batch": 2, "double": 3.0, "version": 3},
        {"batch": 2, "double": 4.0, "version": 3},
    ]
    assert ask(f"{address}/v1/models/m/versions/3:predict", {"instances": [{"x": 1.5}, {"x": 2}]}) == (200, content)


def test_inputs_are_answered_as_outputs(address: str) -> None:
    status, content = ask(f"{address}/v1/models/m:predict", {"inputs": {"x": [1, 2]}})
    assert status == 200
    assert content["outputs"]["double"] == [2.0, 4.0]


def test_bytes_are_sent_as_base64(address: str) -> None:
    b64 = base64.b64encode(b"\xff\x00\x01").decode()
    for body in (
        {"signature_name": "raw", "instances": [{"b64": b64}, "text"]},
        {"signature_name": "raw", "instances": [{"image_bytes": {"b64": b64}}, {"image_bytes": "text"}]},
    ):
        assert ask(f"{address}/v1/models/m:predict", body) == (200, {"predictions": [3, 4]})


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("m:predict", b"{", 400),
        ("m:predict", b"[1]", 400),
        ("m:predict", {}, 400),
        ("m:predict", {"instances": [1], "inputs": [1]}, 400),
        ("m:predict", {"instances": []}, 400),
        ("m:predict", {"instances": ["text"]}, 400),
        ("m:predict", {"instances": [{"y": 1}]}, 400),
        ("m:predict", {"instances": [{"x": 1}, {}]}, 400),
        ("m:predict", {"instances": [[1, 2]]}, 400),
        ("m:predict", {"signature_name": "none", "instances": [1]}, 400),
        ("m:predict", {"signature_name": "raw", "instances": [{"b64": "!"}]}, 400),
        ("other:predict", {"instances": [1]}, 404),
        ("m:classify", {"instances": [1]}, 400),
        ("m", {"instances": [1]}, 400),
    ],
)
def test_a_wrong_request_gets_a_status_and_a_reason(address: str, path: str, body: Any, status: int) -> None:
    answer = ask(f"{address}/v1/models/{path}", body)
    assert answer[0] == status
    assert answer[1]["error"]


def test_a_port_in_use_is_an_error(address: str, tmp_path: Path) -> None:
    host, _, port = address.rpartition(":")
    with pytest.raises(AddressError, match="--rest-port"):
        RestServer(Models(load_servable(save_model(tmp_path / "m", 1).parent)), host, int(port))
