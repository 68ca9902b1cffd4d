"""Answers to requests, the same for gRPC and REST: predict, signature metadata, model status.

Checks, status codes and messages are TensorFlow Serving's: tensorflow_serving/servables/tensorflow/predict_util.cc and
get_model_metadata_impl.cc, model_servers/server_core.cc and get_model_status_impl.cc.
"""

from collections.abc import Iterable
from typing import Any, Final

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
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
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from classify_serving.contract.model import SERVING_DEFAULT
from classify_serving.server.errors import RequestError, invalid_argument
from classify_serving.server.input_tensors import read_inputs
from classify_serving.server.servable import Servable

_SIGNATURE_DEF: Final = "signature_def"


def predict(servable: Servable, request: PredictRequest) -> PredictResponse:
    """Run a signature on a request's inputs and return the outputs in `output_filter`, or all if it is empty.

    Raises:
        RequestError: the request is refused, or the model fails on its inputs.
    """
    spec = _resolve_model(servable, request)
    spec.signature_name = request.model_spec.signature_name or SERVING_DEFAULT
    signature = find_signature(servable, spec.signature_name)
    inputs = read_inputs(request.inputs, signature, servable.max_batch_size)
    wanted = _select_outputs(request.output_filter, signature)
    try:
        outputs = servable.predict(spec.signature_name, inputs)
    except tf.errors.OpError as error:
        # TensorFlow and gRPC use the same numbers for their error codes.
        codes = {code.value[0]: code for code in grpc.StatusCode}
        raise RequestError(codes.get(error.error_code, grpc.StatusCode.INTERNAL), _error_line(error)) from error
    return PredictResponse(model_spec=spec, outputs={alias: _encode_output(outputs[alias]) for alias in wanted})


def model_metadata(servable: Servable, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
    """Describe the model's signatures: `signature_def` is the only metadata field that TensorFlow Serving has.

    Raises:
        RequestError: the request names another model, another version or another metadata field.
    """
    spec = _resolve_model(servable, request)
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != _SIGNATURE_DEF:
            raise invalid_argument(f"Metadata field {field} is not supported")
    response = GetModelMetadataResponse(model_spec=spec)
    response.metadata[_SIGNATURE_DEF].Pack(SignatureDefMap(signature_def=servable.signatures))
    return response


def model_status(servable: Servable, request: GetModelStatusRequest) -> GetModelStatusResponse:
    """Report the served version, whose state is always `AVAILABLE`.

    Raises:
        RequestError: the request names another model or version.
    """
    name = request.model_spec.name
    if name != servable.name:
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
    try:
        _resolve_model(servable, request)
    except RequestError as error:
        if error.code != grpc.StatusCode.NOT_FOUND:
            raise
        version = request.model_spec.version.value
        raise RequestError(error.code, f"Could not find version {version} of model {name}") from error
    status = ModelVersionStatus(version=servable.version, state=ModelVersionStatus.AVAILABLE)
    return GetModelStatusResponse(model_version_status=[status])


def find_signature(servable: Servable, name: str) -> SignatureDef:
    """Inputs and outputs of a signature.

    Raises:
        RequestError: the model has no signature of this name.
    """
    if name not in servable.signatures:
        raise RequestError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return servable.signatures[name]


def _resolve_model(servable: Servable, request: Any) -> ModelSpec:
    """Check that a request names the served model; returns its name and version for the response."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    spec = request.model_spec
    if spec.version_label:
        raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
    asked = f"Specific({spec.name}, {spec.version.value})" if spec.HasField("version") else f"Latest({spec.name})"
    if spec.name != servable.name or (spec.HasField("version") and spec.version.value != servable.version):
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
    resolved = ModelSpec(name=servable.name)
    resolved.version.value = servable.version
    return resolved


def _select_outputs(output_filter: Iterable[str], signature: SignatureDef) -> list[str]:
    wanted = list(output_filter)
    for alias in wanted:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set"
                f" {{{','.join(sorted(signature.outputs))}}}."
            )
    if len(set(wanted)) != len(wanted):
        raise invalid_argument(f"duplicate output tensor alias: {max(wanted, key=wanted.count)}")
    return wanted or sorted(signature.outputs)


def _encode_output(array: NDArray[np.generic]) -> TensorProto:
    """Encode in the typed `*_val` fields, as TensorFlow Serving does by default (Tensor::AsProtoField)."""
    if array.dtype != np.float32:
        return tf.make_tensor_proto(array)
    shape = tf.TensorShape(array.shape).as_proto()
    return TensorProto(dtype=tf.float32.as_datatype_enum, tensor_shape=shape, float_val=array.ravel())


def _error_line(error: tf.errors.OpError) -> str:
    """The line that states the error, without the Python traceback before it and the node names after it."""
    lines: list[str] = error.message.partition("\n\t [[")[0].splitlines()
    return lines[-1].strip() if lines else ""
