"""Importing TensorFlow without its start-up banner."""

import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Import TensorFlow and hide what its libraries print to stderr while they load.

    If the import fails, the hidden lines are printed after all. Afterwards TensorFlow's Python code logs errors only;
    set `TF_CPP_MIN_LOG_LEVEL` to see more from its C++ code.

    Raises:
        ImportError: TensorFlow is not installed, or its installation is broken.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    # The lines about oneDNN and missing GPUs come from C++ before it reads any log level, so only redirecting the file
    # descriptor hides them.
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as banner:
        os.dup2(banner.fileno(), 2)
        try:
            import tensorflow
            from tensorflow_serving.apis import predict_pb2  # noqa: F401

            # Listing devices prints too, so it is done while stderr is hidden.
            tensorflow.config.list_physical_devices()
            tensorflow.get_logger().setLevel("ERROR")
        except Exception:
            banner.seek(0)
            os.write(stderr, banner.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
