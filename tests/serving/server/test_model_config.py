"""Models, versions and labels from a file in TensorFlow Serving's format, and its changes while requests run."""

import logging
import os
import threading
from pathlib import Path

import grpc
import pytest
from saved_models import (
    TWO_LABELS,
    TWO_VERSIONS,
    answering,
    model_entry,
    save_model,
    save_three_versions,
    start_models,
    write_models,
)
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from classify_serving.contract.versions import ServableError
from classify_serving.server.errors import ModelConfigError
from classify_serving.server.models.config import read_model_config
from classify_serving.server.models.manager import ModelManager
from classify_serving.server.models.watcher import Watcher
from classify_serving.server.server import ModelServer


def loaded(manager: ModelManager, name: str = "m") -> list[int]:
    return sorted(manager.models.current[name].servables)


def states(manager: ModelManager, name: str = "m") -> list[tuple[int, str]]:
    statuses = manager.models.current[name].statuses()
    return [(status.version, ModelVersionStatus.State.Name(status.state)) for status in statuses]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_three_versions(tmp_path_factory.mktemp("models") / "m")


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
    assert loaded(start_models(write_models(tmp_path / "models.config", model_entry(folder, policy)))) == versions


def test_labels_at_the_start_need_permission(tmp_path: Path, folder: Path) -> None:
    path = write_models(tmp_path / "models.config", model_entry(folder, TWO_VERSIONS + TWO_LABELS))
    with pytest.raises(ModelConfigError, match="assign label to version 2 of model m, which is not currently"):
        start_models(path, allow_labels=False)


def test_a_label_moves_only_to_a_loaded_version(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "models.config"
    for allow in (True, False):
        manager = start_models(write_models(path, model_entry(folder, TWO_VERSIONS)), allow)
        manager.apply(read_model_config(write_models(path, model_entry(folder, TWO_VERSIONS + TWO_LABELS))))
        before = manager.models.current["m"]
        moved = TWO_LABELS.replace("value: 1", "value: 3")
        with pytest.raises(ModelConfigError, match="version 3 of model m, which is not currently available"):
            manager.apply(
                read_model_config(write_models(path, model_entry(folder, "model_version_policy { all {} }" + moved)))
            )
        assert manager.models.current["m"] == before
        manager.apply(
            read_model_config(write_models(path, model_entry(folder, "model_version_policy { all {} }" + TWO_LABELS)))
        )
        manager.apply(
            read_model_config(write_models(path, model_entry(folder, "model_version_policy { all {} }" + moved)))
        )
        assert manager.models.current["m"].labels == {"stable": 3, "canary": 2}


def test_a_changed_file_takes_effect_without_a_failed_request(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_models(tmp_path / "models.config", model_entry(folder, TWO_VERSIONS + TWO_LABELS))
    other = save_model(tmp_path / "other", 7).parent
    manager = start_models(path)
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
        write_models(path, model_entry(folder, only), model_entry(other))
        watcher.read_config()
        last = answering(channel, version_label="stable")
        stop.set()
        asking.join()
        assert not failures
        assert seen == sorted(seen)
        assert (last, loaded(manager), loaded(manager, "other")) == (2, [2], [7])

        current = manager.models.current
        with caplog.at_level(logging.WARNING):
            for content in ("model_config_list { config {", "", "model_config_list {}"):
                path.write_text(content)
                watcher.read_config()
                watcher.read_config()
        assert [record.message.endswith("the previous configuration stays") for record in caplog.records] == [True] * 2
        assert manager.models.current is current, "a faulty file changes nothing"

        write_models(path, model_entry(other))
        watcher.read_config()
        with pytest.raises(grpc.RpcError) as raised:
            answering(channel)
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_version_is_unloaded_when_its_last_request_is_answered(tmp_path: Path, folder: Path) -> None:
    path = write_models(tmp_path / "models.config", model_entry(folder, TWO_VERSIONS))
    manager = start_models(path)
    running = manager.models.current["m"].servables[1]
    manager.apply(read_model_config(write_models(path, model_entry(folder, TWO_VERSIONS.replace("versions: 1", "")))))
    assert states(manager) == [(2, "AVAILABLE"), (1, "UNLOADING")]
    del running
    manager.check()
    assert states(manager) == [(2, "AVAILABLE"), (1, "END")]
    manager.apply(read_model_config(write_models(path, model_entry(folder, TWO_VERSIONS))))
    assert states(manager) == [(2, "AVAILABLE"), (1, "AVAILABLE")]


def test_a_broken_version_is_reported_and_the_others_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save_model(tmp_path / "m", 1).parent
    (folder / "2").mkdir()
    (folder / "2/saved_model.pb").write_bytes(b"no model")
    manager = start_models(
        write_models(tmp_path / "models.config", model_entry(folder, "model_version_policy { all {} }"))
    )
    manager.check()
    assert states(manager) == [(2, "END"), (1, "AVAILABLE")]
    assert str(folder / "2") in manager.models.current["m"].statuses()[0].status.error_message
    assert len([record for record in caplog.records if str(folder / "2") in record.message]) == 1


def test_a_model_of_another_folder_replaces_the_same_version(tmp_path: Path, folder: Path) -> None:
    path = write_models(tmp_path / "models.config", model_entry(folder, TWO_VERSIONS))
    manager = start_models(path)
    before = manager.models.current["m"].servables[2]
    moved = save_model(tmp_path / "m", 2).parent
    manager.apply(read_model_config(write_models(path, model_entry(moved))))
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
        start_models(write_models(tmp_path / "models.config", model_entry(folder, settings)))
    with pytest.raises(ServableError, match=f"is a version of model 1, not its base_path: write {folder}"):
        start_models(write_models(tmp_path / "models.config", model_entry(folder / "1")))


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


def test_a_pipe_in_the_place_of_the_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "models.config")
    with pytest.raises(ModelConfigError, match="is not a file"):
        read_model_config(tmp_path / "models.config")
