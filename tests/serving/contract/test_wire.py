"""The messages of wire.proto and the official ones of TensorFlow Serving have the same bytes, in both directions."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from classify_serving.contract import wire_pb2
from classify_serving.contract.tensors import TensorError, from_tensor, predict_request, to_tensor

int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
shapes = st.builds(
    lambda dims, unknown: {"dim": [{"size": size, "name": name} for size, name in dims], "unknown_rank": unknown},
    st.lists(st.tuples(int64, st.text(max_size=4)), max_size=4),
    st.booleans(),
)
tensors = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(wire_pb2.DataType.values()),
        "tensor_shape": shapes,
        "version_number": int32,
        "tensor_content": st.binary(max_size=20),
        "float_val": st.lists(st.floats(width=32), max_size=4),
        "double_val": st.lists(st.floats(), max_size=4),
        "int_val": st.lists(int32, max_size=4),
        "string_val": st.lists(st.binary(max_size=8), max_size=4),
        "int64_val": st.lists(int64, max_size=4),
        "bool_val": st.lists(st.booleans(), max_size=4),
        "uint32_val": st.lists(st.integers(0, 2**32 - 1), max_size=4),
        "uint64_val": st.lists(st.integers(0, 2**64 - 1), max_size=4),
    }
)
specs = st.builds(
    lambda name, choice, signature: {"name": name, "signature_name": signature} | choice,
    st.text(max_size=8),
    st.one_of(
        st.just({}),
        int64.map(lambda version: {"version": {"value": version}}),
        st.text(max_size=8).map(lambda label: {"version_label": label}),
    ),
    st.text(max_size=8),
)
aliases = st.text(max_size=8)
requests = st.fixed_dictionaries(
    {
        "model_spec": specs,
        "inputs": st.dictionaries(aliases, tensors, max_size=3),
        "output_filter": st.lists(aliases, max_size=3),
    }
)
responses = st.fixed_dictionaries({"model_spec": specs, "outputs": st.dictionaries(aliases, tensors, max_size=3)})


def assert_same_bytes(values: dict[str, Any], ours: Any, official: Any) -> None:
    sent = ours(**values).SerializeToString(deterministic=True)
    expected = official(**values).SerializeToString(deterministic=True)
    assert sent == expected
    assert ours.FromString(expected).SerializeToString(deterministic=True) == expected
    assert official.FromString(sent).SerializeToString(deterministic=True) == sent


@given(requests)
def test_requests_have_the_official_bytes(values: dict[str, Any]) -> None:
    assert_same_bytes(values, wire_pb2.PredictRequest, predict_pb2.PredictRequest)


@given(responses)
def test_responses_have_the_official_bytes(values: dict[str, Any]) -> None:
    assert_same_bytes(values, wire_pb2.PredictResponse, predict_pb2.PredictResponse)


@pytest.mark.parametrize(
    ("ours", "official"),
    [
        (wire_pb2.TensorProto, tensor_pb2.TensorProto),
        (wire_pb2.TensorShapeProto, tensor_shape_pb2.TensorShapeProto),
        (wire_pb2.TensorShapeProto.Dim, tensor_shape_pb2.TensorShapeProto.Dim),
        (wire_pb2.ModelSpec, model_pb2.ModelSpec),
        (wire_pb2.PredictRequest, predict_pb2.PredictRequest),
        (wire_pb2.PredictResponse, predict_pb2.PredictResponse),
    ],
)
def test_every_field_exists_upstream(ours: Any, official: Any) -> None:
    for field in ours.DESCRIPTOR.fields:
        upstream = official.DESCRIPTOR.fields_by_name[field.name]
        assert (field.number, field.type) == (upstream.number, upstream.type)
        assert (field.is_repeated, field.is_packed) == (upstream.is_repeated, upstream.is_packed)


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    serving = Path(wire_pb2.__file__).parents[2]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{serving}", f"--python_out={tmp_path}"]
    for name in ("contract/wire", "server/batching", "server/ssl_config"):
        subprocess.run([*command, str(serving / f"classify_serving/{name}.proto")], check=True)
        generated, ours = (root / f"classify_serving/{name}_pb2.py" for root in (tmp_path, serving))
        assert generated.read_bytes() == ours.read_bytes(), "run make wire"


def test_data_types_exist_upstream() -> None:
    assert dict(wire_pb2.DataType.items()).items() <= dict(types_pb2.DataType.items()).items()


numbers = st.sampled_from(["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]).flatmap(
    lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
strings = hnp.array_shapes(max_dims=2, max_side=3).flatmap(
    lambda shape: st.lists(st.binary(max_size=5), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
        lambda values: np.array([*values, None], dtype=np.object_)[:-1].reshape(shape)
    )
)


@given(st.one_of(numbers, strings))
def test_arrays_pass_through_tensorflow_unchanged(array: np.ndarray[Any, Any]) -> None:
    received = tf.make_ndarray(tensor_pb2.TensorProto.FromString(to_tensor(array).SerializeToString()))
    np.testing.assert_array_equal(received, array)
    official = tf.make_tensor_proto(array, shape=array.shape).SerializeToString()
    back = from_tensor(wire_pb2.TensorProto.FromString(official))
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


@given(specs, st.dictionaries(aliases, st.one_of(numbers, strings), max_size=3), st.lists(aliases, max_size=3))
def test_a_request_is_read_by_the_official_messages_as_it_was_written(
    spec: dict[str, Any], inputs: dict[str, np.ndarray[Any, Any]], outputs: list[str]
) -> None:
    # Turned arrays do not lie in memory in the order of their values.
    turned = {name: array.T if name.startswith("a") else array for name, array in inputs.items()}
    content = predict_request(wire_pb2.ModelSpec(**spec), turned, outputs)
    received = predict_pb2.PredictRequest.FromString(content)
    assert received.model_spec == model_pb2.ModelSpec(**spec)
    assert list(received.output_filter) == outputs
    assert received.inputs.keys() == turned.keys()
    for name, array in turned.items():
        np.testing.assert_array_equal(tf.make_ndarray(received.inputs[name]), array)


def test_the_last_typed_value_is_repeated() -> None:
    shape = {"dim": [{"size": 2}, {"size": 3}]}
    tensor = wire_pb2.TensorProto(dtype=wire_pb2.DT_FLOAT, tensor_shape=shape, float_val=[1, 2])
    assert from_tensor(tensor).tolist() == [[1, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize(
    "tensor",
    [
        wire_pb2.TensorProto(dtype=wire_pb2.DT_FLOAT, tensor_shape={"unknown_rank": True}),
        wire_pb2.TensorProto(dtype=wire_pb2.DT_FLOAT, tensor_shape={"dim": [{"size": -1}]}),
        wire_pb2.TensorProto(dtype=wire_pb2.DT_FLOAT, tensor_shape={"dim": [{"size": 2}]}, tensor_content=b"1234567"),
        wire_pb2.TensorProto(dtype=wire_pb2.DT_FLOAT, tensor_shape={"dim": [{"size": 2}]}),
        wire_pb2.TensorProto(dtype=wire_pb2.DT_FLOAT, tensor_shape={"dim": [{"size": 1}]}, float_val=[1, 2]),
        wire_pb2.TensorProto(dtype=wire_pb2.DT_INVALID),
    ],
)
def test_an_invalid_tensor_is_refused(tensor: wire_pb2.TensorProto) -> None:
    with pytest.raises(TensorError):
        from_tensor(tensor)


def test_an_array_of_an_unsupported_dtype_is_refused() -> None:
    with pytest.raises(TensorError):
        to_tensor(np.zeros(2, np.complex64))
