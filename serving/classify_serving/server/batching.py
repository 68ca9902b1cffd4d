"""Server-side batching: concurrent requests are merged into one batch by TensorFlow's batching kernel.

TensorFlow Serving uses the same scheduler, so limits and status codes are the same: UNAVAILABLE if the queue is full,
INVALID_ARGUMENT if a request is larger than a batch.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from classify_serving.contract.text import error_reason
from classify_serving.server.batching_pb2 import BatchingParameters
from classify_serving.server.errors import BatchingError

Function = Callable[..., Mapping[str, tf.Tensor]]
_scope_numbers = count()
_MINIMUM: Final = {"max_batch_size": 1, "batch_timeout_micros": 0, "max_enqueued_batches": 1, "num_batch_threads": 1}


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Batching parameters, with TensorFlow Serving's names and defaults.

    Attributes:
        max_batch_size: most images in one batch.
        batch_timeout_micros: time that an incomplete batch waits for more requests, in microseconds.
        max_enqueued_batches: most batches in the queue; further requests are refused.
        num_batch_threads: number of batches that run at the same time.
        allowed_batch_sizes: a batch is padded to the next of these sizes; empty: no padding.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()


def read_batching(path: Path) -> Batching:
    """Read a `--batching_parameters_file`: `BatchingParameters` in protobuf's text format.

    Raises:
        BatchingError: the file cannot be read, sets an unknown field or one that only TensorFlow Serving supports, or
            has invalid values.
    """
    try:
        parameters = text_format.Parse(path.read_text(), BatchingParameters())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise BatchingError(
            f"cannot read batching parameters from {path} ({error_reason(error)}): correct the file"
        ) from error
    given = {field.name: value for field, value in parameters.ListFields()}
    for name in given:
        if name not in Batching.__dataclass_fields__:
            raise BatchingError(f"{path} sets {name}, which classify-serve does not support: remove it")
    sizes = tuple(given.pop("allowed_batch_sizes", ()))
    batching = Batching(**{name: message.value for name, message in given.items()}, allowed_batch_sizes=sizes)
    for name, minimum in _MINIMUM.items():
        value = getattr(batching, name)
        if value < minimum:
            raise BatchingError(f"{path}: {name} is {value}, but must be at least {minimum}: correct it")
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != batching.max_batch_size):
        raise BatchingError(
            f"{path}: allowed_batch_sizes must be in increasing order and end with max_batch_size"
            f" ({batching.max_batch_size}): correct them"
        )
    return batching


def batched(function: Function, signature: SignatureDef, batching: Batching) -> Function:
    """Wrap a signature's function so that concurrent calls are merged into one batch.

    Args:
        function: takes the inputs as keywords and returns the outputs by name; dimension 0 of each is the batch.
        signature: inputs and outputs of the function.
        batching: how to merge.
    """
    names, aliases = sorted(signature.inputs), sorted(signature.outputs)

    def run(*inputs: tf.Tensor) -> list[tf.Tensor]:
        outputs = function(**dict(zip(names, inputs, strict=True)))
        return [outputs[alias] for alias in aliases]

    merge = tf.nondifferentiable_batch_function(
        batching.num_batch_threads,
        batching.max_batch_size,
        batching.batch_timeout_micros,
        list(batching.allowed_batch_sizes) or None,
        batching.max_enqueued_batches,
        autograph=False,
        enable_large_batch_splitting=False,
    )
    # The kernel looks up its queue by the scope's name in the whole process; each function needs a queue of its own.
    scope = f"batching_{next(_scope_numbers)}"

    def merged(*inputs: tf.Tensor) -> list[tf.Tensor]:
        with tf.name_scope(scope):
            outputs: list[tf.Tensor] = merge(run)(*inputs)
            return outputs

    specs = [_spec(name, signature.inputs[name]) for name in names]
    traced: Any = tf.function(merged, input_signature=specs, autograph=False).get_concrete_function()

    def call(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(aliases, traced(*(inputs[name] for name in names)), strict=True))

    return call


def _spec(name: str, info: TensorInfo) -> tf.TensorSpec:
    shape = [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
    return tf.TensorSpec(shape, tf.as_dtype(info.dtype), name)
