"""NumPy arrays to and from the wire's `TensorProto`."""

from math import prod
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classify_serving.contract import wire_pb2
from classify_serving.contract.wire_pb2 import TensorProto, TensorShapeProto


class TensorError(ValueError):
    """A tensor that cannot be put on, or taken off, the wire."""


class _Type(NamedTuple):
    dtype: np.dtype[np.generic]
    field: str


# Little-endian is the byte order of `tensor_content` on every platform TensorFlow Serving runs on.
_TYPES: Final = {
    wire_pb2.DT_FLOAT: _Type(np.dtype("<f4"), "float_val"),
    wire_pb2.DT_DOUBLE: _Type(np.dtype("<f8"), "double_val"),
    wire_pb2.DT_INT32: _Type(np.dtype("<i4"), "int_val"),
    wire_pb2.DT_UINT8: _Type(np.dtype("u1"), "int_val"),
    wire_pb2.DT_INT16: _Type(np.dtype("<i2"), "int_val"),
    wire_pb2.DT_INT8: _Type(np.dtype("i1"), "int_val"),
    wire_pb2.DT_INT64: _Type(np.dtype("<i8"), "int64_val"),
    wire_pb2.DT_BOOL: _Type(np.dtype("?"), "bool_val"),
    wire_pb2.DT_UINT16: _Type(np.dtype("<u2"), "int_val"),
    wire_pb2.DT_UINT32: _Type(np.dtype("<u4"), "uint32_val"),
    wire_pb2.DT_UINT64: _Type(np.dtype("<u8"), "uint64_val"),
}
_ENUM_OF: Final = {wire_type.dtype: enum for enum, wire_type in _TYPES.items()}


def to_tensor(array: NDArray[np.generic]) -> TensorProto:
    """Encode an array of any rank: numbers as `tensor_content` bytes, `bytes` objects as `string_val`.

    Raises:
        TensorError: a dtype with no counterpart on the wire.
    """
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in array.shape])
    if array.dtype == np.object_:
        return TensorProto(dtype=wire_pb2.DT_STRING, tensor_shape=shape, string_val=array.ravel().tolist())
    little = array.dtype.newbyteorder("<")
    if little not in _ENUM_OF:
        raise TensorError(f"an array of {array.dtype} cannot be sent")
    content = array.astype(little, copy=False).tobytes()
    return TensorProto(dtype=_ENUM_OF[little], tensor_shape=shape, tensor_content=content)


def from_tensor(tensor: TensorProto) -> NDArray[np.generic]:
    """Decode a tensor of any rank; strings become an object array of `bytes`.

    Values may be in `tensor_content` or in the typed `*_val` field, where TensorFlow lets the last value
    stand for all that follow it (tensorflow/core/framework/tensor.proto). The result may be read-only.

    Raises:
        TensorError: an unknown type, an unknown shape, or values that do not fill the shape.
    """
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise TensorError(f"a tensor of unknown shape {shape}")
    count = prod(shape)
    if tensor.dtype == wire_pb2.DT_STRING:
        return _filled(np.array([*tensor.string_val, None], dtype=np.object_)[:-1], count).reshape(shape)
    if tensor.dtype not in _TYPES:
        raise TensorError(f"a tensor of type {tensor.dtype}, which is not supported")
    dtype, field = _TYPES[tensor.dtype]
    if not tensor.tensor_content:
        return _filled(np.array(getattr(tensor, field), dtype=dtype), count).reshape(shape)
    if len(tensor.tensor_content) != count * dtype.itemsize:
        raise TensorError(f"{len(tensor.tensor_content)} bytes for a {dtype} tensor of shape {shape}")
    return np.frombuffer(tensor.tensor_content, dtype=dtype).reshape(shape)


def _filled(values: NDArray[np.generic], count: int) -> NDArray[np.generic]:
    if len(values) > count or (count and not len(values)):
        raise TensorError(f"{len(values)} values for a tensor of {count}")
    if len(values) == count:
        return values
    return np.concatenate([values, np.repeat(values[-1:], count - len(values))])
