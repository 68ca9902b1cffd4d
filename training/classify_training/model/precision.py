"""The number format in which a model is trained."""

from typing import Final

import tensorflow as tf

from classify_serving.processor import has_bfloat16
from classify_training.config import Precision

_FIRST_GPU_WITH_BFLOAT16: Final = (8, 0)


def choose_policy(precision: Precision) -> str:
    """Name of Keras' dtype policy for a precision: `float32`, `mixed_bfloat16` or `mixed_float16`.

    `auto` chooses the fastest format that trains equally well: on NVIDIA GPUs bfloat16 from compute capability 8.0 on
    and float16 below, on CPUs with bfloat16 multiplication (AVX512-BF16, AMX) bfloat16, otherwise float32. Variables,
    logits and the loss are always float32 (Micikevicius et al., "Mixed Precision Training", 2018).
    """
    if precision == "auto":
        precision = _fastest()
    return precision if precision == "float32" else f"mixed_{precision}"


def _fastest() -> Precision:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "bfloat16" if capability >= _FIRST_GPU_WITH_BFLOAT16 else "float16"
    return "bfloat16" if has_bfloat16() else "float32"
