"""The gRPC services `PredictionService` and `ModelService`, based on the classes of tensorflow-serving-api."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, GetModelMetadataResponse
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceServicer
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceServicer

from classify_serving.server.errors import RequestError, internal_error
from classify_serving.server.models.registry import Models
from classify_serving.server.requests import model_metadata, model_status, predict

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_log = logging.getLogger(__name__)


class PredictionService(PredictionServiceServicer):  # type: ignore[misc]  # untyped generated code
    """The methods `Predict` and `GetModelMetadata`."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def Predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:  # noqa: N802
        """Run a signature on the request's inputs."""
        seconds_left = context.time_remaining()
        if seconds_left is not None and seconds_left <= 0:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the request was started")
        return _answer(predict, self._models, request, context)

    def GetModelMetadata(  # noqa: N802
        self, request: GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> GetModelMetadataResponse:
        """Describe the model's signatures."""
        return _answer(model_metadata, self._models, request, context)


class ModelService(ModelServiceServicer):  # type: ignore[misc]  # untyped generated code
    """The method `GetModelStatus`."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelStatus(  # noqa: N802
        self, request: GetModelStatusRequest, context: grpc.ServicerContext
    ) -> GetModelStatusResponse:
        """Report the states of a model's versions."""
        return _answer(model_status, self._models, request, context)


def _answer(
    handler: Callable[[Models, _Request], _Response],
    models: Models,
    request: _Request,
    context: grpc.ServicerContext,
) -> _Response:
    try:
        return handler(models, request)
    except RequestError as error:
        context.abort(error.code, str(error))
    except Exception as error:
        # gRPC would answer UNKNOWN and print a traceback.
        failure = internal_error(error)
        _log.error("a request failed: %s", failure)
        context.abort(failure.code, str(failure))


class MalformedMessages(grpc.ServerInterceptor):
    """Answers INVALID_ARGUMENT to bytes that are no message of the method; gRPC would print a traceback for each."""

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], details: grpc.HandlerCallDetails
    ) -> Any:
        """Let the method's handler take bytes, and parse them here."""
        handler = continuation(details)
        if handler is None or handler.request_streaming or handler.response_streaming:
            return handler

        def parse_and_answer(content: bytes, context: grpc.ServicerContext) -> Any:
            try:
                request = handler.request_deserializer(content)
            except DecodeError:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the message is not a request to {details.method}")
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            parse_and_answer, request_deserializer=None, response_serializer=handler.response_serializer
        )
