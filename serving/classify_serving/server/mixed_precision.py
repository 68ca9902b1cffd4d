"""bfloat16 for a float32 model: TensorFlow rewrites its graph when it is loaded, as TensorFlow Serving's flag does."""

import logging
from typing import Final, Literal

import tensorflow as tf

from classify_serving.processor import has_bfloat16

MixedPrecision = Literal["auto", "none", "bfloat16"]

_REWRITE: Final = "auto_mixed_precision_onednn_bfloat16"
_log = logging.getLogger(__name__)


def use_mixed_precision(choice: MixedPrecision) -> None:
    """Set the number format of all models that are loaded from now on.

    Without the instructions for it, bfloat16 is slower than float32, or not possible: then float32 stays.

    Args:
        choice: `none` for the format of the model, `bfloat16`, or `auto` for bfloat16 where it is faster.
    """
    if choice == "none":
        return
    if has_bfloat16():
        tf.config.optimizer.set_experimental_options({_REWRITE: True})
        _log.info("computing float32 models in bfloat16")
    elif choice == "bfloat16":
        _log.warning(
            "answering in float32, because this processor has no instructions for bfloat16 (avx512_bf16 or amx_bf16),"
            " or ONEDNN_MAX_CPU_ISA or TF_ENABLE_ONEDNN_OPTS turns them off"
        )
