"""The gRPC services, on the official stubs, with TensorFlow Serving's checks, codes and messages.

The codes follow tensorflow_serving/servables/tensorflow/{predict_util,get_model_metadata_impl}.cc and
model_servers/{server_core,get_model_status_impl}.cc.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelVersionStatus,
)
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceServicer
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceServicer

from classify_serving.contract.model import SERVING_DEFAULT
from classify_serving.server.servable import Servable, Servables

_SIGNATURE_DEF = "signature_def"


class RequestError(Exception):
    """A request that is refused, with the gRPC status to answer."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class PredictionService(PredictionServiceServicer):  # type: ignore[misc]  # untyped generated code
    """`Predict` and `GetModelMetadata` over one servable."""

    def __init__(self, servables: Servables) -> None:
        self._servables = servables

    def Predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:  # noqa: N802
        """Run a signature on the inputs; outputs are those of `output_filter`, or all."""
        left = context.time_remaining()
        if left is not None and left <= 0:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the request was begun")
        try:
            return predict(self._servables.current, request)
        except RequestError as error:
            _abort(context, error)

    def GetModelMetadata(  # noqa: N802
        self, request: GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> GetModelMetadataResponse:
        """Describe the signatures: the only metadata field there is, `signature_def`."""
        try:
            servable = self._servables.current
            spec = _resolve(servable, request)
            _check_metadata_fields(request.metadata_field)
        except RequestError as error:
            _abort(context, error)
        response = GetModelMetadataResponse(model_spec=spec)
        response.metadata[_SIGNATURE_DEF].Pack(SignatureDefMap(signature_def=servable.signatures))
        return response


class ModelService(ModelServiceServicer):  # type: ignore[misc]  # untyped generated code
    """`GetModelStatus` over one servable."""

    def __init__(self, servables: Servables) -> None:
        self._servables = servables

    def GetModelStatus(  # noqa: N802
        self, request: GetModelStatusRequest, context: grpc.ServicerContext
    ) -> GetModelStatusResponse:
        """Say which version is there."""
        try:
            return model_status(self._servables.current, request)
        except RequestError as error:
            _abort(context, error)


def predict(servable: Servable, request: PredictRequest) -> PredictResponse:
    """Run a signature on a request's inputs; outputs are those of `output_filter`, or all.

    Raises:
        RequestError: the request is refused, or fails in the model.
    """
    spec = _resolve(servable, request)
    spec.signature_name = request.model_spec.signature_name or SERVING_DEFAULT
    if spec.signature_name not in servable.signatures:
        raise RequestError(
            grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{spec.signature_name}" not found.'
        )
    signature = servable.signatures[spec.signature_name]
    inputs = _read_inputs(request.inputs, signature)
    wanted = _wanted_outputs(request.output_filter, signature)
    try:
        outputs = servable.predict(spec.signature_name, inputs)
    except tf.errors.OpError as error:
        # TensorFlow's error codes are gRPC's by number.
        codes = {code.value[0]: code for code in grpc.StatusCode}
        raise RequestError(codes.get(error.error_code, grpc.StatusCode.INTERNAL), _said(error)) from error
    return PredictResponse(model_spec=spec, outputs={alias: _typed_values(outputs[alias]) for alias in wanted})


def _said(error: tf.errors.OpError) -> str:
    """The line that says what is wrong, out of the Python that traced the graph and the node's name."""
    lines: list[str] = error.message.partition("\n\t [[")[0].splitlines()
    return lines[-1].strip() if lines else ""


def model_status(servable: Servable, request: GetModelStatusRequest) -> GetModelStatusResponse:
    """Which version is there; it is `AVAILABLE`, or it would not be the one to ask.

    Raises:
        RequestError: another model or version is asked for.
    """
    name = request.model_spec.name
    if name != servable.name:
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
    try:
        _resolve(servable, request)
    except RequestError as error:
        if error.code != grpc.StatusCode.NOT_FOUND:
            raise
        version = request.model_spec.version.value
        raise RequestError(error.code, f"Could not find version {version} of model {name}") from error
    status = ModelVersionStatus(version=servable.version, state=ModelVersionStatus.AVAILABLE)
    return GetModelStatusResponse(model_version_status=[status])


def _abort(context: grpc.ServicerContext, error: RequestError) -> NoReturn:
    context.abort(error.code, str(error))


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _resolve(servable: Servable, request: Any) -> ModelSpec:
    """The model a request means, as it is named in the response."""
    if not request.HasField("model_spec"):
        raise _invalid("Missing ModelSpec")
    spec = request.model_spec
    if spec.version_label:
        raise _invalid(f"Unrecognized servable version label: {spec.version_label}")
    asked = f"Specific({spec.name}, {spec.version.value})" if spec.HasField("version") else f"Latest({spec.name})"
    if spec.name != servable.name or (spec.HasField("version") and spec.version.value != servable.version):
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
    resolved = ModelSpec(name=servable.name)
    resolved.version.value = servable.version
    return resolved


def _check_metadata_fields(fields: Iterable[str]) -> None:
    asked = list(fields)
    if not asked:
        raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in asked:
        if field != _SIGNATURE_DEF:
            raise _invalid(f"Metadata field {field} is not supported")


def _read_inputs(tensors: Mapping[str, TensorProto], signature: SignatureDef) -> dict[str, NDArray[np.generic]]:
    sent, required = set(tensors), set(signature.inputs)
    if sent != required:
        raise _invalid(
            f"input size does not match signature: {len(sent)}!={len(required)}"
            f" len({{{','.join(sorted(sent))}}}) != len({{{','.join(sorted(required))}}})."
            f" Sent extra: {{{','.join(sorted(sent - required))}}}."
            f" Missing but required: {{{','.join(sorted(required - sent))}}}."
        )
    return {alias: _read_input(alias, tensors[alias], signature.inputs[alias]) for alias in required}


def _read_input(alias: str, tensor: TensorProto, info: TensorInfo) -> NDArray[np.generic]:
    if tensor.dtype != info.dtype:
        sent, expected = (_dtype_name(enum) for enum in (tensor.dtype, info.dtype))
        raise _invalid(f"input {alias} is of type {sent}, the signature expects {expected}")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    expected_shape = [dim.size for dim in info.tensor_shape.dim]
    fits = len(shape) == len(expected_shape) and all(
        expected in (-1, size) for size, expected in zip(shape, expected_shape, strict=True)
    )
    if not fits and not info.tensor_shape.unknown_rank:
        raise _invalid(f"input {alias} has shape {shape}, the signature expects {expected_shape}")
    try:
        array: NDArray[np.generic] = tf.make_ndarray(tensor)
    except (ValueError, TypeError) as error:
        raise _invalid(f"tensor parsing error: {alias}") from error
    return array


def _dtype_name(enum: int) -> str:
    try:
        return str(tf.dtypes.as_dtype(enum).name)
    except TypeError:
        return f"number {enum}"


def _wanted_outputs(output_filter: Iterable[str], signature: SignatureDef) -> list[str]:
    wanted = list(output_filter)
    for alias in wanted:
        if alias not in signature.outputs:
            raise _invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set"
                f" {{{','.join(sorted(signature.outputs))}}}."
            )
    if len(set(wanted)) != len(wanted):
        raise _invalid(f"duplicate output tensor alias: {max(wanted, key=wanted.count)}")
    return wanted or sorted(signature.outputs)


def _typed_values(array: NDArray[np.generic]) -> TensorProto:
    """Encode in the typed `*_val` fields, as TensorFlow Serving does by default (Tensor::AsProtoField)."""
    if array.dtype != np.float32:
        return tf.make_tensor_proto(array)
    shape = tf.TensorShape(array.shape).as_proto()
    return TensorProto(dtype=tf.float32.as_datatype_enum, tensor_shape=shape, float_val=array.ravel())
