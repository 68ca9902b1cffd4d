"""Server-side batching: requests that come at the same time are run together, by TensorFlow's own batching kernel.

It is the kernel's scheduler that TensorFlow Serving uses too, so its limits and refusals are the same: a full queue is
UNAVAILABLE, a request larger than a batch INVALID_ARGUMENT.
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

from classify_serving.server.batching_pb2 import BatchingParameters

Function = Callable[..., Mapping[str, tf.Tensor]]
_scopes = count()
_LEAST: Final = {"max_batch_size": 1, "batch_timeout_micros": 0, "max_enqueued_batches": 1, "num_batch_threads": 1}


class BatchingError(Exception):
    """Batching parameters that cannot be used; one sentence, naming the file."""


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How requests are merged; names and defaults are TensorFlow Serving's.

    Attributes:
        max_batch_size: images in a batch at most.
        batch_timeout_micros: how long a batch that is not full waits for more, in microseconds.
        max_enqueued_batches: batches that wait at most; what comes then is refused.
        num_batch_threads: batches run at once.
        allowed_batch_sizes: batches are padded up to one of these; empty allows all.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()


def read_batching(path: Path) -> Batching:
    """Read a `--batching_parameters_file`, text format of `BatchingParameters`.

    Raises:
        BatchingError: it cannot be read, has a field that does not exist or that only TensorFlow Serving knows, or
            sizes that contradict each other.
    """
    try:
        parameters = text_format.Parse(path.read_text(), BatchingParameters())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise BatchingError(f"{path} does not hold batching parameters ({error}): correct it") from error
    given = {field.name: value for field, value in parameters.ListFields()}
    for name in given:
        if name not in Batching.__dataclass_fields__:
            raise BatchingError(f"{path} sets {name}, which only TensorFlow Serving itself can do: leave it out here")
    sizes = tuple(given.pop("allowed_batch_sizes", ()))
    batching = Batching(**{name: message.value for name, message in given.items()}, allowed_batch_sizes=sizes)
    for name, least in _LEAST.items():
        if getattr(batching, name) < least:
            raise BatchingError(f"{path}: {name} must be at least {least}, not {getattr(batching, name)}: correct it")
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != batching.max_batch_size):
        raise BatchingError(
            f"{path}: allowed_batch_sizes must rise and end with max_batch_size, {batching.max_batch_size}: mend them"
        )
    return batching


def batched(function: Function, signature: SignatureDef, batching: Batching) -> Function:
    """A signature's function that merges concurrent calls.

    Args:
        function: keyword inputs -> outputs by name; dimension 0 of each is the batch.
        signature: what it takes and gives.
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
    # The kernel finds its queue by the name of its scope, in the whole process: a queue for each function.
    scope = f"batching_{next(_scopes)}"

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
