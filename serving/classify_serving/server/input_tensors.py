"""Checks and decoding of a request's tensors: nothing in them is believed, and no memory is taken before the checks.

Messages are TensorFlow Serving's where it has one (tensorflow_serving/servables/tensorflow/predict_util.cc; "Task size"
from batching, tensorflow/core/kernels/batching_util/shared_batch_scheduler.h).
"""

from collections.abc import Mapping
from math import prod
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from classify_serving.server.errors import RequestError, invalid_argument

MAX_REPEATED_BYTES: Final = 64 * 2**20
"""Most memory for an input whose values were not all sent.

The last value in a `*_val` field stands for all that follow it, so a short message may describe a huge tensor.
"""

_STRING_BYTES: Final = 24
"""Memory of an empty string in a TensorFlow tensor."""

_VALUE_FIELDS: Final = (
    *("half_val", "float_val", "double_val", "int_val", "string_val", "scomplex_val", "int64_val", "bool_val"),
    *("dcomplex_val", "uint32_val", "uint64_val", "float8_val"),
)


def read_inputs(
    tensors: Mapping[str, TensorProto], signature: SignatureDef, max_batch_size: int
) -> dict[str, NDArray[np.generic]]:
    """Decode a request's inputs; strings become arrays of dtype object that contain `bytes`.

    Args:
        tensors: the inputs by name.
        signature: the inputs that the model expects.
        max_batch_size: most images in a request: dimension 0 of each input.

    Raises:
        RequestError: the inputs are not those of the signature, are malformed, or exceed a limit.
    """
    sent, required = set(tensors), set(signature.inputs)
    if sent != required:
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(required)}"
            f" len({_names(sent)}) != len({_names(required)}). Sent extra: {_names(sent - required)}."
            f" Missing but required: {_names(required - sent)}."
        )
    for alias in sorted(required):
        _check_type(alias, tensors[alias], signature.inputs[alias])
        _check_shape(alias, tensors[alias], signature.inputs[alias], max_batch_size)
        _check_memory(alias, tensors[alias])
    return {alias: _decode(alias, tensors[alias]) for alias in required}


def _names(names: set[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"


def _check_type(alias: str, tensor: TensorProto, info: TensorInfo) -> None:
    if tensor.dtype != info.dtype:
        sent, expected = (_dtype_name(enum) for enum in (tensor.dtype, info.dtype))
        raise invalid_argument(f"input {alias} is of type {sent}, the signature expects {expected}")


def _dtype_name(enum: int) -> str:
    try:
        return str(tf.dtypes.as_dtype(enum).name)
    except TypeError:
        return f"number {enum}"


def _check_shape(alias: str, tensor: TensorProto, info: TensorInfo, max_batch_size: int) -> None:
    shape = _shape(tensor)
    expected_shape = [dim.size for dim in info.tensor_shape.dim]
    fits = len(shape) == len(expected_shape) and all(
        expected in (-1, size) for size, expected in zip(shape, expected_shape, strict=True)
    )
    if not fits and not info.tensor_shape.unknown_rank:
        raise invalid_argument(f"input {alias} has shape {shape}, the signature expects {expected_shape}")
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise _malformed(alias)
    if shape and shape[0] > max_batch_size:
        raise invalid_argument(f"Task size {shape[0]} is larger than maximum input batch size {max_batch_size}")


def _shape(tensor: TensorProto) -> list[int]:
    return [dim.size for dim in tensor.tensor_shape.dim]


def _check_memory(alias: str, tensor: TensorProto) -> None:
    """Compare the memory that the shape needs with what was sent."""
    # Python's integers do not overflow.
    count = prod(_shape(tensor))
    if tensor.dtype == tf.string.as_datatype_enum:
        texts = tensor.string_val
        last = len(texts[-1]) if texts else 0
        needed = count * _STRING_BYTES + sum(map(len, texts)) + (count - len(texts)) * last
    else:
        needed = count * int(tf.dtypes.as_dtype(tensor.dtype).size)
    if tensor.tensor_content:
        if len(tensor.tensor_content) != needed:
            raise _malformed(alias)
        return
    sent = max(len(getattr(tensor, field, ())) for field in _VALUE_FIELDS)
    if sent < count and needed > MAX_REPEATED_BYTES:
        raise invalid_argument(
            f"input {alias} has {sent} values for shape {_shape(tensor)}, which needs {needed} bytes:"
            f" repeated values may need up to {MAX_REPEATED_BYTES} bytes"
        )


def _decode(alias: str, tensor: TensorProto) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = tf.make_ndarray(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        raise _malformed(alias) from error
    return array


def _malformed(alias: str) -> RequestError:
    return invalid_argument(f"tensor parsing error: {alias}")
