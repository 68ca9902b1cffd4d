"""Which version answers a request that names a version, a label or neither, over gRPC and REST."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from saved_models import (
    TWO_LABELS,
    TWO_VERSIONS,
    answering,
    ask_for,
    model_entry,
    save_three_versions,
    start_models,
    write_models,
)
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from classify_serving.server.rest.server import RestServer
from classify_serving.server.server import ModelServer

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_three_versions(tmp_path_factory.mktemp("models") / "m")


@pytest.fixture(scope="module")
def addresses(folder: Path) -> Iterator[tuple[str, str]]:
    """GRPC and REST of a server with the versions 1 and 2, and labels for both and for one that is not loaded."""
    late = 'version_labels { key: "late one" value: 3 }'
    manager = start_models(
        write_models(folder.parent / "models.config", model_entry(folder, TWO_VERSIONS + TWO_LABELS + late))
    )
    with ModelServer(manager.models) as server, RestServer(manager.models, "127.0.0.1", 0) as rest:
        yield server.address, rest.address


@pytest.fixture(scope="module")
def channel(addresses: tuple[str, str]) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(addresses[0]) as opened:
        yield opened


def test_a_request_names_a_version_a_label_or_neither(channel: grpc.Channel) -> None:
    assert answering(channel) == 2
    assert answering(channel, version={"value": 1}) == 1
    assert answering(channel, version_label="stable") == 1
    assert answering(channel, version_label="canary") == 2


@pytest.mark.parametrize(
    ("spec", "code", "details"),
    [
        ({"name": "x"}, MISSING, "Servable not found for request: Latest(x)"),
        ({"name": "m", "version": {"value": 3}}, MISSING, "Servable not found for request: Specific(m, 3)"),
        ({"name": "m", "version_label": "late one"}, MISSING, "Servable not found for request: Specific(m, 3)"),
        ({"name": "m", "version_label": "no"}, INVALID, "Unrecognized servable version label: no"),
        ({"name": "m", "version_label": ""}, INVALID, "Unrecognized servable version label: "),
        ({"name": "x", "version_label": "stable"}, INVALID, "Unrecognized servable version label: stable"),
        ({"version_label": "stable"}, INVALID, "ModelSpec has no name specified."),
    ],
)
def test_an_unknown_version_gets_tensorflow_servings_status(
    channel: grpc.Channel, spec: dict[str, Any], code: grpc.StatusCode, details: str
) -> None:
    predict = ask_for([1.0], "")
    predict.model_spec.CopyFrom(type(predict.model_spec)(**spec))
    metadata = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    stub = PredictionServiceStub(channel)
    for method, request in ((stub.Predict, predict), (stub.GetModelMetadata, metadata)):
        with pytest.raises(grpc.RpcError) as raised:
            method(request, timeout=20)
        assert (raised.value.code(), raised.value.details()) == (code, details.strip())


def test_metadata_and_status_name_their_version(channel: grpc.Channel) -> None:
    metadata = GetModelMetadataRequest(
        model_spec={"name": "m", "version_label": "stable"}, metadata_field=["signature_def"]
    )
    assert PredictionServiceStub(channel).GetModelMetadata(metadata).model_spec.version.value == 1
    status = ModelServiceStub(channel).GetModelStatus
    for spec, versions in (({}, [2, 1]), ({"version": {"value": 1}}, [1]), ({"version_label": "canary"}, [2])):
        found = status(GetModelStatusRequest(model_spec={"name": "m"} | spec)).model_version_status
        assert [(state.version, state.state) for state in found] == [
            (version, ModelVersionStatus.AVAILABLE) for version in versions
        ]


def rest(address: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"http://{address}/v1/models/{path}", data, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("path", "version"), [("m", 2), ("m/versions/1", 1), ("m/labels/stable", 1), ("m/labels/%63anary", 2)]
)
def test_rest_has_routes_for_versions_and_labels(addresses: tuple[str, str], path: str, version: int) -> None:
    status, content = rest(addresses[1], f"{path}:predict", {"instances": [1.5]})
    assert (status, content["predictions"][0]["version"]) == (200, version)
    status, content = rest(addresses[1], f"{path}/metadata")
    assert (status, content["model_spec"]["version"]) == (200, str(version))
    status, content = rest(addresses[1], path)
    assert content["model_version_status"][0] == {
        "version": str(version),
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    assert len(content["model_version_status"]) == (1 if "/" in path else 2)


@pytest.mark.parametrize(
    ("path", "status"),
    [("m/labels/no", 400), ("m/labels/late%20one", 404), ("m/versions/1/labels/stable", 400), ("m/labels/", 400)],
)
def test_rest_refuses_unknown_labels(addresses: tuple[str, str], path: str, status: int) -> None:
    answers = [rest(addresses[1], f"{path}:predict", {"instances": [1]}), rest(addresses[1], f"{path}/metadata")]
    assert [answer[0] for answer in answers] == [status, status]
    assert all(answer[1]["error"] for answer in answers)
    assert rest(addresses[1], path)[0] == status
