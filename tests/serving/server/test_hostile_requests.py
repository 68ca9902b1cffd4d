"""Malformed gRPC requests are refused with TensorFlow Serving's status before they take any memory."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from server_support import FailingModel, servable_of, start_server
from support import BrightnessModel, lowest_peak, make_metadata, serving
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from classify_serving.server.errors import RequestError
from classify_serving.server.models.registry import Models
from classify_serving.server.requests import predict
from classify_serving.server.server import ModelServer

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UINT8, STRING = 4, 7
HUGE = 2**40


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    with serving(BrightnessModel(make_metadata())) as address, grpc.insecure_channel(address) as opened:
        yield opened


def images(*shape: int, **fields: Any) -> PredictRequest:
    tensor = {"dtype": UINT8, "tensor_shape": {"dim": [{"size": size} for size in shape]}} | fields
    return PredictRequest(model_spec={"name": "classifier"}, inputs={"images": tensor})


def texts(*shape: int, **fields: Any) -> PredictRequest:
    tensor = {"dtype": STRING, "tensor_shape": {"dim": [{"size": size} for size in shape]}} | fields
    return PredictRequest(model_spec={"name": "classifier", "signature_name": "metadata"}, inputs={"request": tensor})


def refusal(channel: grpc.Channel, request: PredictRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        PredictionServiceStub(channel).Predict(request, timeout=20)
    return raised.value.code(), raised.value.details() or ""


PARSING = "tensor parsing error"
TOO_MANY = "is larger than maximum input batch size 1000"


@pytest.mark.parametrize(
    ("request_", "details"),
    [
        (images(-1, 8, 8, 3), PARSING),
        (images(-1, 8, 8, 3, int_val=[1]), PARSING),
        (images(-(2**62), 8, 8, 3, tensor_content=b"\0"), PARSING),
        (images(HUGE, 8, 8, 3), TOO_MANY),
        (images(HUGE, 8, 8, 3, int_val=[1]), TOO_MANY),
        (images(2**63 - 1, 8, 8, 3, tensor_content=b"\0"), TOO_MANY),
        (images(1001, 8, 8, 3, int_val=[1]), TOO_MANY),
        (images(2, 8, 8, 3, tensor_content=b"\0"), PARSING),
        (images(1, 8, 8, 3, int_val=[0] * 193), PARSING),
        (images(1, 8, 8, 3, int_val=[300]), PARSING),
        (images(1, 8, 8, 3, int_val=[-1]), PARSING),
        (images(*[1] * 5000), "has shape [1, 1, 1"),
        (images(1, 8, 8, 3, tensor_shape={"unknown_rank": True}), "has shape []"),
        (texts(-1), PARSING),
        (texts(HUGE), TOO_MANY),
        (texts(HUGE, string_val=[b"x"]), TOO_MANY),
        (texts(1, string_val=[b"x", b"y"]), PARSING),
        (texts(1, tensor_content=b"\1x"), PARSING),
        (texts(1000, string_val=[b"x" * 70_000]), "repeated values may need up to 67108864 bytes"),
    ],
)
def test_a_malformed_tensor_is_an_invalid_argument(
    channel: grpc.Channel, request_: PredictRequest, details: str
) -> None:
    code, message = refusal(channel, request_)
    assert code == INVALID
    assert details in message


def test_repeated_numbers_are_bounded_too() -> None:
    models = Models(servable_of(BrightnessModel(make_metadata(image_size=512))))
    with pytest.raises(RequestError, match="repeated values may need up to 67108864 bytes"):
        predict(models, images(1000, 512, 512, 3, int_val=[1]))


def test_no_memory_is_taken_for_what_is_refused() -> None:
    models = Models(servable_of(BrightnessModel(make_metadata(image_size=512))))
    for request in (images(1000, 512, 512, 3, int_val=[1]), images(HUGE, 512, 512, 3, int_val=[1]), texts(HUGE)):
        assert lowest_peak(partial(refuse, models, request)) < 2**20


def refuse(models: Models, request: PredictRequest) -> None:
    with pytest.raises(RequestError):
        predict(models, request)


def test_the_last_value_is_repeated_within_the_bound(channel: grpc.Channel) -> None:
    response = PredictionServiceStub(channel).Predict(images(3, 8, 8, 3, int_val=[250]), timeout=20)
    assert tf.make_ndarray(response.outputs["top_labels"])[:, 0].tolist() == [b"white"] * 3


def test_a_long_name_is_shortened_in_the_answer(channel: grpc.Channel) -> None:
    request = images(1, 8, 8, 3)
    request.inputs["n" * 100_000].dtype = UINT8
    code, message = refusal(channel, request)
    assert code == INVALID
    assert len(message) < 600


def test_bytes_that_are_no_message_are_an_invalid_argument(
    channel: grpc.Channel, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    service = "tensorflow.serving.PredictionService"
    for method in (f"/{service}/Predict", f"/{service}/GetModelMetadata", "/grpc.health.v1.Health/Check"):
        ask: Any = channel.unary_unary(method)
        with pytest.raises(grpc.RpcError) as raised:
            ask(b"\xff" * 40, timeout=20)
        assert raised.value.code() == INVALID
    assert not caplog.records
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [ValueError("first line\nsecond line"), MemoryError(), KeyError("x")])
def test_an_unexpected_error_of_the_model_is_internal(
    error: Exception, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    content = np.zeros((1, 8, 8, 3), np.uint8).tobytes()
    with start_server(FailingModel(error)) as server, grpc.insecure_channel(server.address) as channel:
        code, message = refusal(channel, images(1, 8, 8, 3, tensor_content=content))
    assert code == grpc.StatusCode.INTERNAL
    assert message.startswith(type(error).__name__)
    assert "\n" not in message
    assert [record.exc_info for record in caplog.records] == [None]
    assert "Traceback" not in capfd.readouterr().err


class CountingProxy:
    """Forwards connections to a server, and counts the bytes that the server accepts."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(*ends, ends[0] is client), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with source, target, suppress(OSError):
            while data := source.recv(2**16):
                target.sendall(data)
                self.accepted += len(data) if counted else 0

    def close(self) -> None:
        self._listener.close()


def test_requests_that_wait_for_a_thread_do_not_fill_the_memory() -> None:
    model = BrightnessModel(make_metadata())
    model.gate.clear()
    servable, megabytes, count = servable_of(model), 8, 16
    too_large = images(1, 8, 8, 3, tensor_content=bytes(megabytes * 2**20))
    small = images(1, 8, 8, 3, tensor_content=bytes(192))
    with (
        ModelServer(Models(servable), threads=1) as server,
        closing(CountingProxy(server.address)) as proxy,
        grpc.insecure_channel(server.address) as channel,
        grpc.insecure_channel(proxy.address) as through_proxy,
    ):
        running = PredictionServiceStub(channel).Predict.future(small, timeout=60)
        assert model.asked.wait(20)
        waiting = [PredictionServiceStub(through_proxy).Predict.future(too_large, timeout=3) for _ in range(count)]
        codes = {call.code() for call in waiting}
        model.gate.set()
        assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
        # The server takes what fits into the window of each stream, and the rest when a thread is free.
        assert proxy.accepted < count * 2**17
        assert running.result().outputs


def test_a_request_over_the_size_limit_is_refused() -> None:
    server = ModelServer(Models(servable_of(BrightnessModel(make_metadata()))), max_request_mb=1)
    with server, grpc.insecure_channel(server.address) as channel:
        code, message = refusal(channel, images(1, 8, 8, 3, tensor_content=bytes(2**20 + 1)))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in message
