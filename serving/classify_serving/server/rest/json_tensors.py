"""Conversion between tensors and the JSON of TensorFlow Serving's REST interface.

The format is that of tensorflow_serving/util/json_tensor.cc. A request has `instances`, one value or object per image,
or `inputs`, whole tensors; bytes are `{"b64": ...}`. The answer has `predictions` or `outputs` accordingly.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from classify_serving.server.errors import invalid_argument


def inputs_from_json(content: Mapping[str, Any], signature: SignatureDef) -> dict[str, TensorProto]:
    """The input tensors of a request's JSON.

    Raises:
        RequestError: the JSON does not have the form above, or does not fit the signature's inputs.
    """
    by_row = "instances" in content
    if by_row == ("inputs" in content):
        raise invalid_argument("Request must have either 'instances' or 'inputs'")
    infos = signature.inputs
    values = _columns(content["instances"], list(infos)) if by_row else _named(content["inputs"], list(infos))
    tensors = {}
    for alias, value in values.items():
        if alias not in infos:
            raise invalid_argument(f"no input {alias}: this signature takes {', '.join(sorted(infos))}")
        tensors[alias] = _encode(alias, value, tf.as_dtype(infos[alias].dtype))
    return tensors


def outputs_to_json(tensors: Mapping[str, TensorProto], by_row: bool) -> dict[str, Any]:
    """The answer's JSON: `predictions`, one value or object per image, if `by_row`, otherwise `outputs`."""
    outputs = {alias: _json_values(tf.make_ndarray(tensor)) for alias, tensor in tensors.items()}
    if not by_row:
        return {"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}
    if len(outputs) == 1:
        return {"predictions": next(iter(outputs.values()))}
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]}


def _columns(rows: Any, aliases: list[str]) -> Mapping[str, Any]:
    """Regroup values by input; a row is an object of inputs, or the value of the only input."""
    if not isinstance(rows, list) or not rows:
        raise invalid_argument("'instances' must be a list of at least one value")
    if not any(_is_named(row) for row in rows):
        return {aliases[0]: rows}
    named = [_named(row, aliases) for row in rows]
    if any(set(row) != set(named[0]) for row in named):
        raise invalid_argument("all instances must have the same inputs")
    return {alias: [row[alias] for row in named] for alias in named[0]}


def _named(value: Any, aliases: list[str]) -> Mapping[str, Any]:
    return value if _is_named(value) else {aliases[0]: value}


def _is_named(value: Any) -> bool:
    """Whether a value is an object of inputs."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _encode(alias: str, value: Any, dtype: tf.DType) -> TensorProto:
    try:
        return tf.make_tensor_proto(_decode_base64(value) if dtype == tf.string else value, dtype)
    except (TypeError, ValueError, OverflowError, RecursionError, binascii.Error) as error:
        reason = " ".join(str(error).split())[:200]
        raise invalid_argument(f"input {alias} cannot be converted to a {dtype.name} tensor: {reason}") from error


def _decode_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode_base64(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True) if set(value) == {"b64"} else value
    return value


def _json_values(array: NDArray[Any]) -> Any:
    if array.dtype == np.object_:
        return np.vectorize(lambda text: text.decode("utf-8", "backslashreplace"), otypes=[object])(array).tolist()
    return array.tolist()
