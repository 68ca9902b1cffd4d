"""Several models and versions with labels, from a file in TensorFlow Serving's format."""

import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from saved_models import ask_for, save_model
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from classify_serving.contract.versions import ServableError
from classify_serving.server.errors import ModelConfigError
from classify_serving.server.models.config import read_model_config
from classify_serving.server.models.manager import ModelManager
from classify_serving.server.models.watcher import Watcher
from classify_serving.server.rest.server import RestServer
from classify_serving.server.server import ModelServer

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
BOTH = "model_version_policy { specific { versions: 1 versions: 2 } }"
LABELS = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'


def entry(folder: Path, settings: str = "") -> str:
    return f'config {{ name: "{folder.name}" base_path: "{folder}" model_platform: "tensorflow" {settings} }}'


def write(path: Path, *entries: str) -> Path:
    path.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    return path


def start(path: Path, allow: bool = True) -> ModelManager:
    manager = ModelManager(allow_unavailable_labels=allow)
    manager.start(read_model_config(path))
    return manager


def loaded(manager: ModelManager, name: str = "m") -> list[int]:
    return sorted(manager.models.current[name].servables)


def states(manager: ModelManager, name: str = "m") -> list[tuple[int, str]]:
    statuses = manager.models.current[name].statuses()
    return [(status.version, ModelVersionStatus.State.Name(status.state)) for status in statuses]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the versions 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("models") / "m"
    for version in (1, 2, 3):
        save_model(folder, version)
    return folder


@pytest.fixture(scope="module")
def addresses(folder: Path) -> Iterator[tuple[str, str]]:
    """GRPC and REST of a server with the versions 1 and 2, and labels for both and for one that is not loaded."""
    late = 'version_labels { key: "late one" value: 3 }'
    manager = start(write(folder.parent / "models.config", entry(folder, BOTH + LABELS + late)))
    with ModelServer(manager.models) as server, RestServer(manager.models, "127.0.0.1", 0) as rest:
        yield server.address, rest.address


@pytest.fixture(scope="module")
def channel(addresses: tuple[str, str]) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(addresses[0]) as opened:
        yield opened


def answering(channel: grpc.Channel, **spec: Any) -> int:
    """The version that answers; it is the same in the response's `model_spec` and in the model's output."""
    request = ask_for([1.0], "m")
    request.model_spec.MergeFrom(type(request.model_spec)(**spec))
    response = PredictionServiceStub(channel).Predict(request, timeout=20)
    assert tf.make_ndarray(response.outputs["version"]).tolist() == [response.model_spec.version.value]
    return int(response.model_spec.version.value)


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


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", [3]),
        ("latest {}", [3]),
        ("latest { num_versions: 2 }", [2, 3]),
        ("latest { num_versions: 9 }", [1, 2, 3]),
        ("all {}", [1, 2, 3]),
        ("specific { versions: 2 versions: 1 versions: 1 }", [1, 2]),
    ],
)
def test_the_policy_selects_versions(tmp_path: Path, folder: Path, policy: str, versions: list[int]) -> None:
    policy = policy and f"model_version_policy {{ {policy} }}"
    assert loaded(start(write(tmp_path / "models.config", entry(folder, policy)))) == versions


def test_labels_at_the_start_need_permission(tmp_path: Path, folder: Path) -> None:
    path = write(tmp_path / "models.config", entry(folder, BOTH + LABELS))
    with pytest.raises(ModelConfigError, match="assign label to version 2 of model m, which is not currently"):
        start(path, allow=False)


def test_a_label_moves_only_to_a_loaded_version(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "models.config"
    for allow in (True, False):
        manager = start(write(path, entry(folder, BOTH)), allow)
        manager.apply(read_model_config(write(path, entry(folder, BOTH + LABELS))))
        before = manager.models.current["m"]
        moved = LABELS.replace("value: 1", "value: 3")
        with pytest.raises(ModelConfigError, match="version 3 of model m, which is not currently available"):
            manager.apply(read_model_config(write(path, entry(folder, "model_version_policy { all {} }" + moved))))
        assert manager.models.current["m"] == before
        manager.apply(read_model_config(write(path, entry(folder, "model_version_policy { all {} }" + LABELS))))
        manager.apply(read_model_config(write(path, entry(folder, "model_version_policy { all {} }" + moved))))
        assert manager.models.current["m"].labels == {"stable": 3, "canary": 2}


def test_a_changed_file_takes_effect_without_a_failed_request(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "models.config", entry(folder, BOTH + LABELS))
    other = save_model(tmp_path / "other", 7).parent
    manager = start(path)
    watcher = Watcher(manager, config_file=path, config_seconds=1)
    with ModelServer(manager.models) as server, grpc.insecure_channel(server.address) as channel:
        seen: list[int] = []
        failures: list[Exception] = []
        stop = threading.Event()

        def keep_asking() -> None:
            try:
                while not stop.is_set():
                    seen.append(answering(channel, version_label="stable"))
            except Exception as error:
                failures.append(error)

        asking = threading.Thread(target=keep_asking)
        asking.start()
        only = 'model_version_policy { specific { versions: 2 } } version_labels { key: "stable" value: 2 }'
        write(path, entry(folder, only), entry(other))
        watcher.read_config()
        last = answering(channel, version_label="stable")
        stop.set()
        asking.join()
        assert not failures
        assert seen == sorted(seen)
        assert (last, loaded(manager), loaded(manager, "other")) == (2, [2], [7])

        current = manager.models.current
        with caplog.at_level(logging.WARNING):
            for content in ("model_config_list { config { nam", "", "model_config_list {}"):
                path.write_text(content)
                watcher.read_config()
                watcher.read_config()
        assert [record.message.endswith("the previous configuration stays") for record in caplog.records] == [True] * 2
        assert manager.models.current is current, "a faulty file changes nothing"

        write(path, entry(other))
        watcher.read_config()
        with pytest.raises(grpc.RpcError) as raised:
            answering(channel)
        assert raised.value.code() == MISSING


def test_a_version_is_unloaded_when_its_last_request_is_answered(tmp_path: Path, folder: Path) -> None:
    path = write(tmp_path / "models.config", entry(folder, BOTH))
    manager = start(path)
    running = manager.models.current["m"].servables[1]
    manager.apply(read_model_config(write(path, entry(folder, BOTH.replace("versions: 1", "")))))
    assert states(manager) == [(2, "AVAILABLE"), (1, "UNLOADING")]
    del running
    manager.check()
    assert states(manager) == [(2, "AVAILABLE"), (1, "END")]
    manager.apply(read_model_config(write(path, entry(folder, BOTH))))
    assert states(manager) == [(2, "AVAILABLE"), (1, "AVAILABLE")]


def test_a_broken_version_is_reported_and_the_others_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save_model(tmp_path / "m", 1).parent
    (folder / "2").mkdir()
    (folder / "2/saved_model.pb").write_bytes(b"no model")
    manager = start(write(tmp_path / "models.config", entry(folder, "model_version_policy { all {} }")))
    manager.check()
    assert states(manager) == [(2, "END"), (1, "AVAILABLE")]
    assert str(folder / "2") in manager.models.current["m"].statuses()[0].status.error_message
    assert len([record for record in caplog.records if str(folder / "2") in record.message]) == 1


def test_a_model_of_another_folder_replaces_the_same_version(tmp_path: Path, folder: Path) -> None:
    path = write(tmp_path / "models.config", entry(folder, BOTH))
    manager = start(path)
    before = manager.models.current["m"].servables[2]
    moved = save_model(tmp_path / "m", 2).parent
    manager.apply(read_model_config(write(path, entry(moved))))
    assert loaded(manager) == [2]
    assert manager.models.current["m"].servables[2] is not before


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("model_version_policy { specific { versions: 4 } }", "no version 4 of model m in"),
        ("model_version_policy { specific { versions: 4 versions: 5 } }", "no version 5 of model m in"),
    ],
)
def test_a_model_without_its_versions_does_not_start(tmp_path: Path, folder: Path, settings: str, reason: str) -> None:
    with pytest.raises(ServableError, match=reason):
        start(write(tmp_path / "models.config", entry(folder, settings)))
    with pytest.raises(ServableError, match=f"is a version of model 1, not its base_path: write {folder}"):
        start(write(tmp_path / "models.config", entry(folder / "1")))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("config { }", "cannot read models from"),
        ("", "names no model"),
        ("custom_model_config {}", "sets custom_model_config"),
        ("model_config_list { config { base_path: '/m' model_platform: 'tensorflow' } }", "without a name"),
        ("model_config_list { config { name: 'm' base_path: '/m' } }", 'needs model_platform: "tensorflow"'),
        (
            "model_config_list { config { name: 'm' base_path: '/m' model_platform: 'tensorflow_lite' } }",
            'needs model_platform: "tensorflow"',
        ),
        (
            "model_config_list { config { name: 'm' base_path: 'models/m' model_platform: 'tensorflow' } }",
            "Expected model m to have an absolute path or URI; got base_path()=models/m",
        ),
        (
            "model_config_list { config { name: 'm' base_path: '/m' model_platform: 'tensorflow' logging_config {} } }",
            "sets logging_config",
        ),
        (
            "model_config_list { config { name: 'm' base_path: '/m' model_platform: 'tensorflow'"
            " model_version_policy { specific {} } } }",
            "the policy specific of model m has no versions",
        ),
        (
            "model_config_list { config { name: 'm' base_path: '/m' model_platform: 'tensorflow' }"
            " config { name: 'm' base_path: '/n' model_platform: 'tensorflow' } }",
            "Illegal to list model m multiple times in config list",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "models.config"
    path.write_text(content)
    with pytest.raises(ModelConfigError) as raised:
        read_model_config(path)
    assert str(path) in str(raised.value)
    assert reason in str(raised.value)
