"""TensorFlow's 8-bit convolution with bias, ReLU and requantisation in one operation.

`_FusedQuantizedConv2D` has no Python function. It is what TensorFlow itself puts into graphs for oneDNN
(tensorflow/core/ops/mkl_nn_ops.cc); it runs with oneDNN, also on processors without 8-bit instructions, and without.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.attr_value_pb2 import AttrValue

from classify_training.quantization.kernels import QuantizedKernel

_LEVELS: Final = 255
_SIGNED_LEVELS: Final = 127


def convolution(
    inputs: tf.Tensor,
    input_range: float,
    kernel: QuantizedKernel,
    bias: NDArray[np.float32],
    output_range: float,
    padding: str = "SAME",
) -> tf.Tensor:
    """Convolution with stride 1, bias and ReLU.

    Args:
        inputs: quint8 [N,H,W,I]; 255 stands for `input_range`.
        input_range: a value above 0.
        kernel: I input and O output channels.
        bias: float32 [O].
        output_range: what 255 in the output stands for; larger values become 255.
        padding: `SAME` or `VALID`.

    Returns:
        quint8 [N,h,w,O].
    """
    ends = [tf.constant(0.0), tf.constant(output_range, tf.float32)]
    return _operation(inputs, input_range, kernel, bias, tf.quint8, ends, padding, ("BiasAdd", "Relu", "Requantize"))


def product(inputs: tf.Tensor, input_range: float, kernel: QuantizedKernel) -> tf.Tensor:
    """The sum over all places and channels of inputs times kernel, float32 [N,O]: a dense layer on feature maps.

    Args:
        inputs: quint8 [N,H,W,I]; 255 stands for `input_range`.
        input_range: a value above 0.
        kernel: of the same height and width.
    """
    no_bias = np.zeros(kernel.values.shape[-1], np.float32)
    sums = _operation(inputs, input_range, kernel, no_bias, tf.qint32, [], "VALID", ("BiasAdd",))
    step = float(kernel.limits.max()) / _SIGNED_LEVELS * input_range / _LEVELS
    return tf.cast(tf.bitcast(sums, tf.int32), tf.float32)[:, 0, 0] * step


def maximum_pooling(inputs: tf.Tensor, input_range: float) -> tf.Tensor:
    """The maxima of 2 x 2 places, quint8 [N,H,W,C] -> [N,H // 2,W // 2,C]; the range stays."""
    sides = [1, 2, 2, 1]
    pooled, *_ = tf.raw_ops.QuantizedMaxPool(
        input=inputs, min_input=0.0, max_input=input_range, ksize=sides, strides=sides, padding="VALID"
    )
    return pooled


def as_float(inputs: tf.Tensor, input_range: float) -> tf.Tensor:
    """The values that 8-bit integers stand for, float32."""
    return tf.cast(tf.bitcast(inputs, tf.uint8), tf.float32) * (input_range / _LEVELS)


def _operation(
    inputs: tf.Tensor,
    input_range: float,
    kernel: QuantizedKernel,
    bias: NDArray[np.float32],
    result: tf.DType,
    result_range: Sequence[tf.Tensor],
    padding: str,
    fused: Sequence[str],
) -> tf.Tensor:
    limits = tf.constant(kernel.limits, tf.float32)
    ranges = [tf.constant(0.0), tf.constant(input_range, tf.float32), -limits, limits, *result_range]
    operation = tf.compat.v1.get_default_graph().create_op(
        "_FusedQuantizedConv2D",
        [inputs, _constant(kernel.values), tf.constant(bias), *ranges],
        [result, tf.float32, tf.float32],
        # A name is needed.
        name="int8_convolution",
        attrs={
            "Tinput": _type(tf.quint8),
            "Tfilter": _type(tf.qint8),
            "Tbias": _type(tf.float32),
            "Tsummand": _type(result),
            "out_type": _type(result),
            "Tdevice_inputs": _types(tf.quint8, tf.qint8, tf.float32),
            "Thost_inputs": _types(*[tf.float32] * len(ranges)),
            "Tdevice_outputs": _types(result),
            "Thost_outputs": _types(tf.float32, tf.float32),
            "strides": AttrValue(list=AttrValue.ListValue(i=[1, 1, 1, 1])),
            "padding": AttrValue(s=padding.encode()),
            "fused_ops": AttrValue(list=AttrValue.ListValue(s=[name.encode() for name in fused])),
        },
    )
    return operation.outputs[0]


def _constant(values: NDArray[np.int8]) -> tf.Tensor:
    """A qint8 constant: oneDNN prepares a kernel once only if it is one."""
    content = tf.make_tensor_proto(values)
    content.dtype = tf.qint8.as_datatype_enum
    operation = tf.compat.v1.get_default_graph().create_op(
        "Const",
        [],
        [tf.qint8],
        name="int8_kernel",
        attrs={"value": AttrValue(tensor=content), "dtype": _type(tf.qint8)},
    )
    return operation.outputs[0]


def _type(dtype: Any) -> AttrValue:
    return AttrValue(type=dtype.as_datatype_enum)


def _types(*dtypes: Any) -> AttrValue:
    return AttrValue(list=AttrValue.ListValue(type=[dtype.as_datatype_enum for dtype in dtypes]))
