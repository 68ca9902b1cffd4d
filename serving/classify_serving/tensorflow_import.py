"""Importing TensorFlow without its start-up banner."""

import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Import TensorFlow, holding back what its libraries print while loading.

    The lines about oneDNN and absent GPUs come from C++ before any log level is heard, so the only place to
    hold them back is the file descriptor. They are shown after all if the import fails. Devices are looked for
    at once, because that prints too. Afterwards TensorFlow logs errors only; its kernels more, if
    `TF_CPP_MIN_LOG_LEVEL` asks for it.

    Raises:
        ImportError: TensorFlow is not installed, or broken.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as banner:
        os.dup2(banner.fileno(), 2)
        try:
            import tensorflow
            from tensorflow_serving.apis import predict_pb2  # noqa: F401

            tensorflow.config.list_physical_devices()
            tensorflow.get_logger().setLevel("ERROR")
        except Exception:
            banner.seek(0)
            os.write(stderr, banner.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
