"""Conversion between NumPy arrays and `TensorProto` messages."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classify_serving.contract import wire_pb2
from classify_serving.contract.wire_pb2 import TensorProto, TensorShapeProto

Buffer = bytes | memoryview


class TensorError(ValueError):
    """An array that cannot be encoded as a `TensorProto`, or a `TensorProto` that cannot be decoded."""


class _Type(NamedTuple):
    dtype: np.dtype[np.generic]
    field: str


# `tensor_content` is in the server's byte order: little-endian on every platform that TensorFlow Serving runs on.
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

_INPUTS: Final = wire_pb2.PredictRequest.DESCRIPTOR.fields_by_name["inputs"].number
_TENSOR_CONTENT: Final = wire_pb2.TensorProto.DESCRIPTOR.fields_by_name["tensor_content"].number
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_LENGTH_DELIMITED: Final = 2
"""Field numbers and wire type."""


def to_tensor(array: NDArray[np.generic]) -> TensorProto:
    """Encode an array of any shape: numbers in `tensor_content`, `bytes` objects (dtype object) in `string_val`.

    Raises:
        TensorError: the array's dtype has no counterpart in `TensorProto`.
    """
    shape = _shape(array)
    if array.dtype == np.object_:
        return TensorProto(dtype=wire_pb2.DT_STRING, tensor_shape=shape, string_val=array.ravel().tolist())
    little = array.dtype.newbyteorder("<")
    if little not in _ENUM_OF:
        raise TensorError(f"an array of dtype {array.dtype} cannot be sent")
    content = array.astype(little, copy=False).tobytes()
    return TensorProto(dtype=_ENUM_OF[little], tensor_shape=shape, tensor_content=content)


def predict_request(
    model_spec: wire_pb2.ModelSpec, inputs: Mapping[str, NDArray[np.generic]], outputs: Sequence[str]
) -> bytes:
    """Write a `PredictRequest`.

    The numbers are copied once. Setting a field and serialising the message would copy them three times, which for
    images is most of the work. Parts of a message may follow each other in any order
    (https://protobuf.dev/programming-guides/encoding/).

    Args:
        model_spec: which model, and which of its signatures.
        inputs: by name, of any shape.
        outputs: names of the wanted outputs.

    Raises:
        TensorError: as `to_tensor`.
    """
    parts: list[Buffer] = [wire_pb2.PredictRequest(model_spec=model_spec, output_filter=outputs).SerializeToString()]
    for name, array in inputs.items():
        tensor = _tensor_parts(array)
        entry = [*_field(_ENTRY_KEY, [name.encode()]), *_field(_ENTRY_VALUE, tensor)]
        parts += _field(_INPUTS, entry)
    return b"".join(parts)


def _tensor_parts(array: NDArray[np.generic]) -> list[Buffer]:
    """The parts of a serialised `TensorProto`."""
    little = array.dtype.newbyteorder("<")
    if little not in _ENUM_OF or not array.size:
        return [to_tensor(array).SerializeToString()]
    content = np.ascontiguousarray(array, little)
    head = TensorProto(dtype=_ENUM_OF[little], tensor_shape=_shape(array)).SerializeToString()
    return [head, *_field(_TENSOR_CONTENT, [content.reshape(-1).view(np.uint8).data])]


def _field(number: int, parts: Sequence[Buffer]) -> list[Buffer]:
    """A field of bytes, which are in several parts."""
    size = sum(len(part) for part in parts)
    return [_varint(number << 3 | _LENGTH_DELIMITED) + _varint(size), *parts]


def _varint(value: int) -> bytes:
    """A number in protobuf's encoding: seven bits in each byte, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _shape(array: NDArray[np.generic]) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in array.shape])


def from_tensor(tensor: TensorProto) -> NDArray[np.generic]:
    """Decode a tensor of any shape; strings become an array of dtype object that contains `bytes`.

    Values may be in `tensor_content` or in the typed `*_val` field. In a `*_val` field, the last value is repeated
    until the shape is full (tensorflow/core/framework/tensor.proto). The result may be read-only.

    Raises:
        TensorError: the type or the shape is unknown, or the number of values does not match the shape.
    """
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise TensorError(f"the tensor's shape {shape} is unknown")
    count = prod(shape)
    if tensor.dtype == wire_pb2.DT_STRING:
        return _filled(np.array([*tensor.string_val, None], dtype=np.object_)[:-1], count).reshape(shape)
    if tensor.dtype not in _TYPES:
        raise TensorError(f"the tensor's type {tensor.dtype} is not supported")
    dtype, field = _TYPES[tensor.dtype]
    if not tensor.tensor_content:
        return _filled(np.array(getattr(tensor, field), dtype=dtype), count).reshape(shape)
    if len(tensor.tensor_content) != count * dtype.itemsize:
        raise TensorError(f"{len(tensor.tensor_content)} bytes do not fill a {dtype} tensor of shape {shape}")
    return np.frombuffer(tensor.tensor_content, dtype=dtype).reshape(shape)


def _filled(values: NDArray[np.generic], count: int) -> NDArray[np.generic]:
    if len(values) > count or (count and not len(values)):
        raise TensorError(f"{len(values)} values do not fill a tensor of {count} elements")
    if len(values) == count:
        return values
    return np.concatenate([values, np.repeat(values[-1:], count - len(values))])
