"""A new version is served without a failed request; a broken version is not served."""

import logging
import threading
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from saved_models import ask_for, save_model
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from classify_serving.server.models.config import single_model
from classify_serving.server.models.manager import ModelManager
from classify_serving.server.models.watcher import Watcher
from classify_serving.server.server import ModelServer


def test_new_broken_and_removed_versions_while_requests_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "m"
    save_model(folder, 1)
    manager = ModelManager()
    manager.start([single_model(folder, None)])
    with ModelServer(manager.models) as server, grpc.insecure_channel(server.address) as channel:
        predict = PredictionServiceStub(channel).Predict

        def version() -> int:
            response = predict(ask_for([1.0], "m"), timeout=20)
            assert tf.make_ndarray(response.outputs["version"])[0] == response.model_spec.version.value
            return int(response.model_spec.version.value)

        manager.check()
        assert version() == 1
        seen: list[int] = []
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                seen.append(version())

        asking = threading.Thread(target=keep_asking)
        asking.start()
        save_model(folder, 2)
        manager.check()
        assert version() == 2
        stop.set()
        asking.join()
        assert seen == sorted(seen), "each request was answered, by the old version and then by the new"

        (folder / "3").mkdir()
        (folder / "3/saved_model.pb").write_bytes(b"no model")
        with caplog.at_level(logging.WARNING):
            manager.check()
            manager.check()
        assert version() == 2
        assert [record.message for record in caplog.records if "still serving version 2" in record.message] == [
            caplog.records[-1].message
        ], "logged once"

        (folder / "3").rename(tmp_path / "gone")
        (folder / "2").rename(tmp_path / "rolled back")
        manager.check()
        assert version() == 1


def test_the_watcher_thread_loads_a_new_version(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save_model(folder, 1)
    manager = ModelManager()
    manager.start([single_model(folder, None)])
    with Watcher(manager):
        save_model(folder, 2)
        found = threading.Event()
        for _ in range(300):
            if list(manager.models.current["m"].servables) == [2]:
                found.set()
                break
            found.wait(0.1)
        assert found.is_set()
