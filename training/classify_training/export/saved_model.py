"""Exporting a version of a SavedModel: it is complete and verified before servers can see it."""

import io
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

from classify_serving.contract import model as contract
from classify_serving.contract.model import ModelMetadata
from classify_serving.contract.text import error_reason
from classify_serving.files import locked
from classify_training import interrupts
from classify_training.errors import ExportError
from classify_training.export.signatures import Signatures

WARMUP_BATCH_SIZES: Final = (1, 32)
"""Batch sizes that TensorFlow Serving runs before it takes requests: one image, and the client's default."""

_TOLERANCE: Final = 1e-4
_TEMPORARY: Final = ".incoming-"
_log = logging.getLogger(__name__)


def export(
    signatures: Signatures,
    images: NDArray[np.uint8],
    folder: Path,
    extras: Mapping[str, bytes] | None = None,
    before_publishing: Callable[[Path], None] = lambda written: None,
    elsewhere: str = "choose another --output",
) -> Path:
    """Write a version of a model below `folder`, and return its path.

    It is written to a temporary folder that TensorFlow Serving ignores, reloaded, compared with the trained model, and
    renamed last, so that no server ever sees an incomplete version.

    Args:
        signatures: of the trained model; their metadata have the version's number.
        images: uint8 [N,S,S,3] RGB, N >= 1, real images for verification and for warm-up requests.
        folder: the model's folder, created if needed.
        extras: additional files, path in the version's folder -> content.
        before_publishing: called with the complete and verified version just before it is renamed.
        elsewhere: what the user can do if there is no space in this folder.

    Raises:
        ExportError: the folder cannot be written to, or the reloaded model differs from the trained one.
        Interrupted: a signal arrived before the version was renamed.
    """
    metadata = signatures.metadata
    target = folder / str(metadata.model_version)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=folder) as temporary, locked(Path(temporary)):
            written = Path(temporary) / "version"
            interrupts.check()
            tf.saved_model.save(signatures, str(written), signatures=signatures.functions())
            _write_warmup(written / contract.WARMUP_FILE, metadata, images)
            for name, content in (extras or {}).items():
                (written / name).write_bytes(content)
            interrupts.check()
            _verify(written, signatures, images[:16])
            # The server may run as another user than the training.
            written.chmod(0o755)
            before_publishing(written)
            interrupts.check()
            os.rename(written, target)
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(
            f"cannot write the model to {target} ({_reason(error)}): free disk space, check permissions, or {elsewhere}"
        ) from error
    _log.info("exported %s", target)
    return target


def _reason(error: Exception) -> str:
    """The reason of an error, without the file and operation names in TensorFlow's messages."""
    if isinstance(error, OSError):
        return error_reason(error)
    return str(error).splitlines()[0].rpartition(";")[2].partition(" [Op:")[0].strip()


def _verify(path: Path, signatures: Signatures, images: NDArray[np.uint8]) -> None:
    """Compare the reloaded version with the trained model on real images, for both kinds of input."""
    loaded = tf.saved_model.load(str(path))
    expected = signatures.probabilities(images)
    served = loaded.signatures[contract.SERVING_DEFAULT](images=tf.constant(images))
    encoded = loaded.signatures[contract.ENCODED](image_bytes=tf.constant([_png(image) for image in images]))
    described = loaded.signatures[contract.METADATA](request=tf.constant([b""]))[contract.JSON].numpy()[0]
    for name, answer in ((contract.SERVING_DEFAULT, served), (contract.ENCODED, encoded)):
        difference = float(np.max(np.abs(answer[contract.PROBABILITIES].numpy() - expected)))
        if not difference <= _TOLERANCE:
            raise ExportError(
                f"the exported model's {name} differs from the trained one by {difference:.2g} in probability:"
                " nothing was published; train again, and report this if it happens again"
            )
    if ModelMetadata.from_json(described) != signatures.metadata:
        raise ExportError(
            "the exported model's metadata differs from what was written: nothing was published;"
            " train again, and report this if it happens again"
        )


def _png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _write_warmup(path: Path, metadata: ModelMetadata, images: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in WARMUP_BATCH_SIZES:
            writer.write(_record(metadata, contract.SERVING_DEFAULT, contract.IMAGES, _repeat(images, size)))
        one = images[:1]
        for signature in (contract.EMBED, contract.EXPLAIN):
            writer.write(_record(metadata, signature, contract.IMAGES, one))
        writer.write(_record(metadata, contract.ENCODED, contract.IMAGE_BYTES, [_png(one[0])]))
        writer.write(_record(metadata, contract.METADATA, contract.REQUEST, [b""]))


def _repeat(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return images[np.arange(size) % len(images)]


def _record(metadata: ModelMetadata, signature: str, alias: str, value: Any) -> bytes:
    request = PredictRequest(inputs={alias: tf.make_tensor_proto(value)})
    request.model_spec.name = metadata.model_name
    request.model_spec.signature_name = signature
    content: bytes = PredictionLog(predict_log=PredictLog(request=request)).SerializeToString()
    return content


def remove_leftovers(folder: Path) -> None:
    """Delete temporary folders of exports that were killed; those of running exports are kept."""
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError), locked(leftover):
            shutil.rmtree(leftover)
