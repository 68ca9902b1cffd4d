"""Retry rules, load balancing over several servers, and servers that stop and restart."""

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from client_support import Client, Start
from grpc import StatusCode
from numpy.typing import NDArray
from server_support import FailingModel, start_server
from support import BrightnessModel, make_metadata, write_picture

from classify_client.errors import ServiceError
from classify_client.inference.connection import Connection
from classify_client.inference.load_balancer import RetryTimeout
from classify_client.inference.model_client import ModelClient
from classify_client.inference.retry_policy import RetryAction, pause, retry_action
from classify_serving.contract import model as contract

IMAGES = np.full((4, 8, 8, 3), 250, np.uint8)


def server_error(name: str, message: str = "") -> Exception:
    """TensorFlow's exception of this name, from which the server makes a gRPC status."""
    exception: Exception = getattr(tf.errors, f"{name}Error")(None, None, message)
    return exception


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for index in range(24):
        write_picture(tmp_path / f"images/white/{index:02}.png", 250)
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (StatusCode.UNAVAILABLE, "Connection refused", RetryAction.RETRY),
        (
            StatusCode.UNAVAILABLE,
            "The batch scheduling queue to which this task was submitted is full",
            RetryAction.THROTTLE,
        ),
        (StatusCode.UNAVAILABLE, "Tls handshake failed: CERTIFICATE_VERIFY_FAILED", RetryAction.ABORT),
        (StatusCode.RESOURCE_EXHAUSTED, "", RetryAction.THROTTLE),
        (
            StatusCode.RESOURCE_EXHAUSTED,
            "timeout exceeded while waiting in batching queue",
            RetryAction.EXTEND_DEADLINE,
        ),
        (StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max (9 vs. 4)", RetryAction.SPLIT),
        (StatusCode.RESOURCE_EXHAUSTED, "OOM when allocating tensor with shape[32,64,128,128]", RetryAction.SPLIT),
        (StatusCode.DEADLINE_EXCEEDED, "", RetryAction.EXTEND_DEADLINE),
        (StatusCode.INVALID_ARGUMENT, "Task size 64 is larger than maximum input batch size 32", RetryAction.SPLIT),
        (StatusCode.INVALID_ARGUMENT, "input must be rank 4", RetryAction.BISECT),
        (StatusCode.FAILED_PRECONDITION, "", RetryAction.FAIL_REQUEST),
        (StatusCode.UNIMPLEMENTED, "", RetryAction.ABORT),
        (StatusCode.UNAUTHENTICATED, "", RetryAction.ABORT),
        (StatusCode.NOT_FOUND, "", RetryAction.ABORT),
    ],
)
def test_each_grpc_status_leads_to_its_retry_action(code: StatusCode, details: str, expected: RetryAction) -> None:
    assert retry_action(code, details) is expected


def test_a_missing_model_is_retried_only_at_the_start() -> None:
    assert retry_action(StatusCode.NOT_FOUND, "", starting=True) is RetryAction.RETRY


def test_pauses_grow_up_to_a_maximum() -> None:
    assert 0.05 <= pause(1) <= 0.1
    assert 0.4 <= pause(4) <= 0.8
    assert 1.5 <= pause(1000) <= 3


@pytest.mark.parametrize(
    "error",
    [
        server_error("Unavailable"),
        server_error("ResourceExhausted"),
        server_error("ResourceExhausted", "timeout exceeded while waiting in batching queue"),
        server_error("DeadlineExceeded"),
        server_error("Aborted"),
    ],
)
def test_temporary_errors_are_retried(start: Start, error: Exception) -> None:
    model = FailingModel(error)
    with ModelClient(Connection(servers=(start(model).address,)), "classifier") as client:
        client.metadata()
        assert [prediction.top[0][0] for prediction in client.classify(IMAGES, client.current)] == ["white"] * 4
    assert model.batches[0] == model.batches[-1] == 4


def test_a_server_that_never_recovers_ends_the_run(start: Start) -> None:
    model = FailingModel(*[server_error("Unavailable")] * 1000)
    with ModelClient(Connection(servers=(start(model).address,)), "classifier", RetryTimeout.of(0)) as client:
        client.metadata()
        with pytest.raises(ServiceError):
            client.classify(IMAGES, client.current)
        model.errors.clear()
        assert client.classify(IMAGES, client.current)[0].top


def test_a_batch_that_is_too_large_is_split_and_so_are_all_later_ones(start: Start) -> None:
    model = FailingModel(server_error("InvalidArgument", "Task size 4 is larger than maximum input batch size 3"))
    with ModelClient(Connection(servers=(start(model).address,)), "classifier") as client:
        assert all(
            prediction.top
            for prediction in client.classify(IMAGES, client.current) + client.classify(IMAGES, client.current)
        )
    assert model.batches == [4, 2, 2, 2, 2]


def test_only_the_image_that_causes_the_error_fails(start: Start) -> None:
    client = start(BrightnessModel(make_metadata(), refuse=128))
    for index, brightness in enumerate((5, 6, 250, 128, 250, 7, 128)):
        write_picture(client.images / f"{index}.png", brightness)
    assert client.run("--batch-size", "7").exit_code == 1
    assert [row["status"] for row in client.rows()] == ["ok", "ok", "ok", "error", "ok", "ok", "error"]
    assert client.rows()[3]["error"] == "INVALID_ARGUMENT: this brightness is refused"


def test_a_batch_is_not_split_if_no_single_image_causes_the_error(start: Start) -> None:
    model = FailingModel(server_error("FailedPrecondition", "batching"))
    with ModelClient(Connection(servers=(start(model).address,)), "classifier") as client:
        assert [prediction.error for prediction in client.classify(IMAGES, client.current)] == [
            "FAILED_PRECONDITION: batching"
        ] * 4
    assert model.batches == [4]


@pytest.fixture
def blocked_model(pictures: Path) -> Iterator[BrightnessModel]:
    """A model that answers no batch until its gate is set, at the latest at the end of the test."""
    model = BrightnessModel(make_metadata())
    model.gate.clear()
    yield model
    model.gate.set()


def test_the_run_waits_for_a_server_that_restarts(
    blocked_model: BrightnessModel, pictures: Path, tmp_path: Path
) -> None:
    first_server = start_server(blocked_model)
    second_model = BrightnessModel(make_metadata())
    restarted = []

    def restart() -> None:
        blocked_model.asked.wait(30)
        first_server.stop(grace=0)
        restarted.append(start_server(second_model, first_server.address))

    thread = threading.Thread(target=restart)
    thread.start()
    client = Client(blocked_model, first_server.address, pictures, tmp_path / "out")
    result = client.run("--batch-size", "4")
    thread.join()
    restarted[0].stop()
    assert result.exit_code == 0, result.output
    assert [row["status"] for row in client.rows()] == ["ok"] * 24
    assert second_model.images == 24


def test_the_other_servers_take_over_the_images_of_a_server_that_stops(
    blocked_model: BrightnessModel, pictures: Path, tmp_path: Path, start: Start
) -> None:
    stopping, running = start_server(blocked_model), start(BrightnessModel(make_metadata()))

    def stop() -> None:
        blocked_model.asked.wait(30)
        stopping.stop(grace=0)

    thread = threading.Thread(target=stop)
    thread.start()
    running.output = tmp_path / "out"
    result = running.run("--server", running.address, "--server", stopping.address, "--batch-size", "2")
    thread.join()
    assert result.exit_code == 0, result.output
    assert [row["status"] for row in running.rows()] == ["ok"] * 24
    assert running.model.images == 24
    assert running.summary()["arguments"]["servers"] == [running.address, stopping.address]


@pytest.mark.parametrize("one_name", [False, True])
def test_every_server_gets_requests(start: Start, one_name: bool) -> None:
    models = [BrightnessModel(make_metadata()) for _ in range(2)]
    addresses = tuple(start(model).address for model in models)
    # One host name with two addresses, written as gRPC resolves it.
    servers = ("ipv4:" + ",".join(addresses),) if one_name else addresses
    with ModelClient(Connection(servers=servers), "classifier") as client:
        for model in models:
            model.gate.clear()
        threads = [threading.Thread(target=client.classify, args=(IMAGES, client.current)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for model in models:
            assert model.asked.wait(30)
            model.gate.set()
        for thread in threads:
            thread.join()
    assert sum(model.images for model in models) == 16


def test_a_run_ends_at_the_retry_timeout_and_resumes(
    blocked_model: BrightnessModel, pictures: Path, tmp_path: Path
) -> None:
    server = start_server(blocked_model)

    def stop() -> None:
        blocked_model.asked.wait(30)
        server.stop(grace=0)

    thread = threading.Thread(target=stop)
    thread.start()
    client = Client(blocked_model, server.address, pictures, tmp_path / "out")
    result = client.run("--batch-size", "4", "--retry-timeout", "200ms")
    thread.join()
    assert result.exit_code == 3
    assert server.address in result.stderr
    assert "run again to continue" in result.stderr
    assert not client.summary()["complete"]
    blocked_model.gate.set()
    with start_server(blocked_model, server.address):
        assert client.run().exit_code == 0
    assert len(client.rows()) == 24


def test_a_model_that_refuses_every_image_ends_the_run(start: Start, tmp_path: Path) -> None:
    client = start(FailingModel(*[server_error("Internal", "out of order")] * 10_000))
    for index in range(300):
        write_picture(client.images / f"white/{index}.png", 250)
    result = client.run("--batch-size", "8")
    assert result.exit_code == 3
    assert "INTERNAL: out of order" in result.stderr
    assert "check the server's log" in result.stderr
    assert 0 < client.model.images + len(client.rows()) < 200


class OneAnswerModel(BrightnessModel):
    """Answers the batch of black images when four batches have arrived; the others wait for `released`."""

    def __init__(self) -> None:
        super().__init__(make_metadata())
        self.arrived = threading.Semaphore(0)
        self.released = threading.Event()

    def predict(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if signature != contract.METADATA:
            self.arrived.release()
            if inputs[contract.IMAGES].mean() > 100:
                self.released.wait(60)
            else:
                for _ in range(4):
                    self.arrived.acquire(timeout=30)
        return super().predict(signature, inputs)


def test_images_that_only_waited_are_no_errors_when_the_server_never_returns(pictures: Path, tmp_path: Path) -> None:
    model = OneAnswerModel()
    server = start_server(model)
    client = Client(model, server.address, pictures, tmp_path / "out")
    for number in range(2):
        write_picture(pictures / f"black/{number}.png", 0)

    def stop() -> None:
        # Black images are the first batch, so its answer is written at once.
        for _ in range(1200):
            if (client.output / "predictions.csv").exists() and client.rows():
                break
            time.sleep(0.05)
        server.stop(grace=0)
        model.released.set()

    thread = threading.Thread(target=stop)
    thread.start()
    result = client.run("--batch-size", "2", "--in-flight", "4", "--retry-timeout", "200ms")
    thread.join()
    assert result.exit_code == 3, result.output
    assert [row["status"] for row in client.rows()] == ["ok"] * 2


def test_the_servers_can_be_set_by_an_environment_variable(
    start: Start, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    client = start(BrightnessModel(make_metadata()))
    monkeypatch.setenv("CLASSIFY_SERVER", f"{client.address} 127.0.0.1:1")
    monkeypatch.setattr(client, "address", "")
    assert client.run("--quiet").exit_code == 0
    assert client.summary()["answered"] == 24
