"""The local server answers like TensorFlow Serving; tested with tensorflow-serving-api over real gRPC."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support import BrightnessModel, make_metadata, make_signatures, serving
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from classify_serving.server.errors import AddressError
from classify_serving.server.models.registry import Models
from classify_serving.server.servable import Servable
from classify_serving.server.server import ModelServer

IMAGES = np.full((2, 8, 8, 3), 250, np.uint8)


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    with serving(BrightnessModel(make_metadata(model_version=7))) as address, grpc.insecure_channel(address) as opened:
        yield opened


def request(inputs: dict[str, Any] | None = None, outputs: tuple[str, ...] = (), **spec: Any) -> Any:
    arrays = {"images": IMAGES} if inputs is None else inputs
    return predict_pb2.PredictRequest(
        model_spec={"name": "classifier"} | spec,
        inputs={alias: tf.make_tensor_proto(array) for alias, array in arrays.items()},
        output_filter=outputs,
    )


def refusal(method: Any, message: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        method(message, timeout=20)
    return raised.value.code(), raised.value.details() or ""


def test_predict_returns_the_requested_outputs(channel: grpc.Channel) -> None:
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
    response = predict(request(version={"value": 7}))
    assert sorted(response.outputs) == ["probabilities", "top_labels", "top_probabilities"]
    assert tf.make_ndarray(response.outputs["top_labels"])[:, 0].tolist() == [b"white", b"white"]
    assert response.outputs["top_probabilities"].float_val[:3] == pytest.approx([0.7, 0.2, 0.1])
    assert (response.model_spec.version.value, response.model_spec.signature_name) == (7, "serving_default")
    assert list(predict(request(outputs=("probabilities",))).outputs) == ["probabilities"]


INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("message", "code", "details"),
    [
        (predict_pb2.PredictRequest(), INVALID, "Missing ModelSpec"),
        (request(name="other"), MISSING, "Servable not found for request: Latest(other)"),
        (request(version={"value": 1}), MISSING, "Servable not found for request: Specific(classifier, 1)"),
        (request(version_label="stable"), INVALID, "Unrecognized servable version label: stable"),
        (request(signature_name="no"), grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "no" not found.'),
        (request({}), INVALID, "Missing but required: {images}"),
        (request({"images": IMAGES, "x": IMAGES}), INVALID, "Sent extra: {x}"),
        (request({"images": IMAGES.astype(np.float32)}), INVALID, "of type float32, the signature expects uint8"),
        (request({"images": IMAGES[0]}), INVALID, "has shape [8, 8, 3]"),
        (request({"images": IMAGES[:, :4]}), INVALID, "has shape [2, 4, 8, 3]"),
        (request(outputs=("no",)), INVALID, "output tensor alias not found in signature: no"),
        (request(outputs=("probabilities",) * 2), INVALID, "duplicate output tensor alias: probabilities"),
    ],
)
def test_a_wrong_request_gets_tensorflow_servings_status(
    channel: grpc.Channel, message: Any, code: grpc.StatusCode, details: str
) -> None:
    answer = refusal(prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict, message)
    assert answer[0] == code
    assert details in answer[1]


def test_a_tensor_that_does_not_fill_its_shape_is_refused(channel: grpc.Channel) -> None:
    message = request()
    message.inputs["images"].tensor_content = b"short"
    answer = refusal(prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict, message)
    assert answer == (INVALID, "tensor parsing error: images")


def test_an_error_inside_the_model_keeps_its_code() -> None:
    model = BrightnessModel(make_metadata(), refuse=250)
    with serving(model) as address, grpc.insecure_channel(address) as channel:
        answer = refusal(prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict, request())
    assert answer == (INVALID, "this brightness is refused")


def test_model_metadata_describes_the_signatures(channel: grpc.Channel) -> None:
    ask = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata
    message = get_model_metadata_pb2.GetModelMetadataRequest
    response = ask(message(model_spec={"name": "classifier"}, metadata_field=["signature_def"]))
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == {"serving_default", "metadata"}
    assert refusal(ask, message(model_spec={"name": "classifier"}))[0] == INVALID
    assert refusal(ask, message(model_spec={"name": "classifier"}, metadata_field=["x"]))[0] == INVALID
    assert refusal(ask, message(model_spec={"name": "x"}, metadata_field=["signature_def"]))[0] == MISSING


def test_model_status_reports_the_available_version(channel: grpc.Channel) -> None:
    ask = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
    message = get_model_status_pb2.GetModelStatusRequest
    (status,) = ask(message(model_spec={"name": "classifier"})).model_version_status
    assert (status.version, status.state) == (7, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    assert refusal(ask, message(model_spec={"name": "x"})) == (MISSING, "Could not find any versions of model x")
    wrong = message(model_spec={"name": "classifier", "version": {"value": 1}})
    assert refusal(ask, wrong) == (MISSING, "Could not find version 1 of model classifier")


def test_health_is_reported(channel: grpc.Channel) -> None:
    check = health_pb2_grpc.HealthStub(channel).Check
    for name in ("", "tensorflow.serving.PredictionService"):
        assert check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
    assert refusal(check, health_pb2.HealthCheckRequest(service="x"))[0] == MISSING


def test_stopping_waits_for_a_running_request() -> None:
    model = BrightnessModel(make_metadata())
    model.gate.clear()
    server = ModelServer(Models(Servable("classifier", 1, make_signatures(8), model.predict)))
    with grpc.insecure_channel(server.address) as channel:
        call = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(request())
        assert model.asked.wait(20)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        model.gate.set()
        assert tf.make_ndarray(call.result(20).outputs["top_labels"])[0, 0] == b"white"
        stopping.join(20)
        assert not stopping.is_alive()


def test_a_port_in_use_is_an_error() -> None:
    with serving(BrightnessModel(make_metadata())) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(AddressError, match=f"127.0.0.1:{port}"):
            ModelServer(Models(Servable("x", 1, {}, BrightnessModel(make_metadata()).predict)), port=port)
