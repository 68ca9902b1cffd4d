"""Several servers, servers that go and come back, and what is repeated."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from client_support import Client, Start
from grpc import StatusCode
from server_support import TroubledModel, start_server
from support import BrightnessModel, make_metadata, write_picture

from classify_client.errors import ServiceError
from classify_client.inference.connection import Connection
from classify_client.inference.load_balancer import RetryTimeout
from classify_client.inference.model_client import ModelClient
from classify_client.inference.retry_policy import RetryAction, pause, retry_action

IMAGES = np.full((4, 8, 8, 3), 250, np.uint8)


def error(kind: str, message: str = "") -> Exception:
    made: Exception = getattr(tf.errors, f"{kind}Error")(None, None, message)
    return made


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
def test_what_a_status_means(code: StatusCode, details: str, expected: RetryAction) -> None:
    assert retry_action(code, details) is expected


def test_a_model_may_be_missing_only_while_the_server_starts() -> None:
    assert retry_action(StatusCode.NOT_FOUND, "", starting=True) is RetryAction.RETRY


def test_pauses_grow_and_end_somewhere() -> None:
    assert 0.05 <= pause(1) <= 0.1
    assert 0.4 <= pause(4) <= 0.8
    assert 1.5 <= pause(1000) <= 3


@pytest.mark.parametrize(
    "fault",
    [
        error("Unavailable"),
        error("ResourceExhausted"),
        error("ResourceExhausted", "timeout exceeded while waiting in batching queue"),
        error("DeadlineExceeded"),
        error("Aborted"),
    ],
)
def test_what_may_pass_is_asked_again(start: Start, fault: Exception) -> None:
    model = TroubledModel(fault)
    with ModelClient(Connection(servers=(start(model).address,)), "classifier") as served:
        served.metadata()
        assert [prediction.top[0][0] for prediction in served.classify(IMAGES, served.current)] == ["white"] * 4
    assert model.batches[0] == model.batches[-1] == 4


def test_a_server_that_never_recovers_ends_the_run(start: Start) -> None:
    model = TroubledModel(*[error("Unavailable")] * 1000)
    with ModelClient(Connection(servers=(start(model).address,)), "classifier", RetryTimeout.of(0)) as served:
        served.metadata()
        with pytest.raises(ServiceError):
            served.classify(IMAGES, served.current)
        model.faults.clear()
        assert served.classify(IMAGES, served.current)[0].top


def test_a_batch_that_is_too_large_is_sent_in_parts_from_then_on(start: Start) -> None:
    model = TroubledModel(error("InvalidArgument", "Task size 4 is larger than maximum input batch size 3"))
    with ModelClient(Connection(servers=(start(model).address,)), "classifier") as served:
        assert all(
            prediction.top
            for prediction in served.classify(IMAGES, served.current) + served.classify(IMAGES, served.current)
        )
    assert model.batches == [4, 2, 2, 2, 2]


def test_only_the_image_at_fault_gets_the_error(start: Start) -> None:
    made = start(BrightnessModel(make_metadata(), refuse=128))
    for index, brightness in enumerate((5, 6, 250, 128, 250, 7, 128)):
        write_picture(made.images / f"{index}.png", brightness)
    assert made.run("--batch-size", "7").exit_code == 1
    assert [row["status"] for row in made.rows()] == ["ok", "ok", "ok", "error", "ok", "ok", "error"]
    assert made.rows()[3]["error"] == "INVALID_ARGUMENT: this brightness is refused"


def test_what_no_image_is_at_fault_for_is_not_taken_apart(start: Start) -> None:
    model = TroubledModel(error("FailedPrecondition", "batching"))
    with ModelClient(Connection(servers=(start(model).address,)), "classifier") as served:
        assert [prediction.error for prediction in served.classify(IMAGES, served.current)] == [
            "FAILED_PRECONDITION: batching"
        ] * 4
    assert model.batches == [4]


@pytest.fixture
def held(pictures: Path) -> Iterator[BrightnessModel]:
    """A model that answers only when its gate is opened."""
    model = BrightnessModel(make_metadata())
    model.gate.clear()
    yield model
    model.gate.set()


def test_a_server_that_restarts_is_waited_for(held: BrightnessModel, pictures: Path, tmp_path: Path) -> None:
    first = start_server(held)
    second = BrightnessModel(make_metadata())
    restarted = []

    def restart() -> None:
        held.asked.wait(30)
        first.stop(grace=0)
        restarted.append(start_server(second, first.address))

    thread = threading.Thread(target=restart)
    thread.start()
    made = Client(held, first.address, pictures, tmp_path / "out")
    result = made.run("--batch-size", "4")
    thread.join()
    restarted[0].stop()
    assert result.exit_code == 0, result.output
    assert [row["status"] for row in made.rows()] == ["ok"] * 24
    assert second.images == 24


def test_the_work_of_a_server_that_dies_is_done_by_the_others(
    held: BrightnessModel, pictures: Path, tmp_path: Path, start: Start
) -> None:
    dying, living = start_server(held), start(BrightnessModel(make_metadata()))

    def kill() -> None:
        held.asked.wait(30)
        dying.stop(grace=0)

    thread = threading.Thread(target=kill)
    thread.start()
    living.output = tmp_path / "out"
    result = living.run("--server", living.address, "--server", dying.address, "--batch-size", "2")
    thread.join()
    assert result.exit_code == 0, result.output
    assert [row["status"] for row in living.rows()] == ["ok"] * 24
    assert living.model.images == 24
    assert living.summary()["arguments"]["servers"] == [living.address, dying.address]


@pytest.mark.parametrize("one_name", [False, True])
def test_all_servers_are_kept_busy(start: Start, one_name: bool) -> None:
    models = [BrightnessModel(make_metadata()) for _ in range(2)]
    addresses = tuple(start(model).address for model in models)
    # What a name with two addresses resolves to, as gRPC writes it.
    servers = ("ipv4:" + ",".join(addresses),) if one_name else addresses
    with ModelClient(Connection(servers=servers), "classifier") as served:
        for model in models:
            model.gate.clear()
        threads = [threading.Thread(target=served.classify, args=(IMAGES, served.current)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for model in models:
            assert model.asked.wait(30)
            model.gate.set()
        for thread in threads:
            thread.join()
    assert sum(model.images for model in models) == 16


def test_a_run_ends_at_the_retry_timeout_and_resumes(held: BrightnessModel, pictures: Path, tmp_path: Path) -> None:
    server = start_server(held)

    def kill() -> None:
        held.asked.wait(30)
        server.stop(grace=0)

    thread = threading.Thread(target=kill)
    thread.start()
    made = Client(held, server.address, pictures, tmp_path / "out")
    result = made.run("--batch-size", "4", "--retry-timeout", "200ms")
    thread.join()
    assert result.exit_code == 3
    assert server.address in result.stderr
    assert "run again to continue" in result.stderr
    assert not made.summary()["complete"]
    held.gate.set()
    with start_server(held, server.address):
        assert made.run().exit_code == 0
    assert len(made.rows()) == 24


def test_a_server_of_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    made = start(BrightnessModel(make_metadata()))
    monkeypatch.setenv("CLASSIFY_SERVER", f"{made.address} 127.0.0.1:1")
    monkeypatch.setattr(made, "address", "")
    assert made.run("--quiet").exit_code == 0
    assert made.summary()["answered"] == 24
