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
)
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from classify_serving.contract.model import SERVING_DEFAULT
from classify_serving.server.errors import RequestError, invalid_argument
from classify_serving.server.input_tensors import read_inputs
from classify_serving.server.models.registry import Models, find_servable, requested_version
from classify_serving.server.servable import Servable

_SIGNATURE_DEF: Final = "signature_def"


def predict(models: Models, request: PredictRequest) -> PredictResponse:
    """Run a signature on a request's inputs and return the outputs in `output_filter`, or all if it is empty.

    Raises:
        RequestError: the request is refused, or the model fails on its inputs.
    """
    return run_signature(find_servable(models.current, _model_spec(request)), request)


def run_signature(servable: Servable, request: PredictRequest) -> PredictResponse:
    """The same for the version that the request asks for.

    Raises:
        RequestError: the request is refused, or the model fails on its inputs.
    """
    spec = _spec_of(servable)
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


def model_metadata(models: Models, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
    """Describe the signatures of a version: `signature_def` is the only metadata field that TensorFlow Serving has.

    Raises:
        RequestError: there is no such model, version, label or metadata field.
    """
    servable = find_servable(models.current, _model_spec(request))
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != _SIGNATURE_DEF:
            raise invalid_argument(f"Metadata field {field} is not supported")
    response = GetModelMetadataResponse(model_spec=_spec_of(servable))
    response.metadata[_SIGNATURE_DEF].Pack(SignatureDefMap(signature_def=servable.signatures))
    return response


def model_status(models: Models, request: GetModelStatusRequest) -> GetModelStatusResponse:
    """Report the state of the version that a request names by number or label, otherwise of all versions.

    Raises:
        RequestError: the server does not know the model, version or label.
    """
    spec, current = _model_spec(request), models.current
    if spec.name not in current:
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
    version = requested_version(current, spec)
    statuses = [status for status in current[spec.name].statuses() if version in (None, status.version)]
    if not statuses:
        which = "any versions" if version is None else f"version {version}"
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find {which} of model {spec.name}")
    return GetModelStatusResponse(model_version_status=statuses)


def find_signature(servable: Servable, name: str) -> SignatureDef:
    """Inputs and outputs of a signature.

    Raises:
        RequestError: the model has no signature of this name.
    """
    if name not in servable.signatures:
        raise RequestError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return servable.signatures[name]


def _model_spec(request: Any) -> ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    return request.model_spec


def _spec_of(servable: Servable) -> ModelSpec:
    """Name and version of what answers, for the response."""
    spec = ModelSpec(name=servable.name)
    spec.version.value = servable.version
    return spec


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
