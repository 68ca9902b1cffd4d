"""A loaded version of a model: signatures and a predict function, from a SavedModel or from a test."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from classify_serving.contract.model import SERVING_DEFAULT, WARMUP_FILE
from classify_serving.contract.text import error_reason
from classify_serving.contract.versions import SAVED_MODEL, ServableError, find_version
from classify_serving.server.batching import Batching, batched

Arrays = Mapping[str, NDArray[np.generic]]
Predict = Callable[[str, Arrays], Arrays]

DEFAULT_BATCH_SIZE: Final = 1000
"""Most images in one request if batching is off: the default of TensorFlow Serving's `max_batch_size`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Servable:
    """One loaded version of a model.

    Attributes:
        name: the model's name in requests.
        version: the version's number.
        signatures: inputs and outputs of each signature, by the signature's name.
        predict: takes a signature's name and its inputs, returns its outputs; inputs must fit the signature.
        max_batch_size: most images in one request.
    """

    name: str
    version: int
    signatures: Mapping[str, SignatureDef]
    predict: Predict
    max_batch_size: int = DEFAULT_BATCH_SIZE


def load_servable(folder: Path, name: str | None = None, batching: Batching | None = None) -> Servable:
    """Load the newest version in `folder` and run its warm-up requests.

    Args:
        folder: a model's folder `<name>/`, or a version's folder `<name>/<number>/`.
        name: the model's name in requests; by default the name of the model's folder.
        batching: how concurrent requests are merged; None: not at all.

    Raises:
        ServableError: `folder` has no version, the version cannot be loaded, or one of its warm-up requests fails.
    """
    version = find_version(folder)
    try:
        signatures = _read_signatures(version / SAVED_MODEL)
        loaded = tf.saved_model.load(str(version))
        servable = Servable(
            name=name or version.resolve().parent.name,
            version=int(version.name),
            signatures=signatures,
            predict=_predictor(loaded, signatures, batching),
            max_batch_size=batching.max_batch_size if batching else DEFAULT_BATCH_SIZE,
        )
        _warm_up(servable, version / WARMUP_FILE)
    except (DecodeError, OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise ServableError(f"cannot load the model in {version} ({_first_line(error)}): export it again") from error
    return servable


def _first_line(error: Exception) -> str:
    # In TensorFlow's messages, graph nodes and a Python traceback follow after the first line.
    if isinstance(error, OSError) and error.strerror:
        return error_reason(error)
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _read_signatures(path: Path) -> dict[str, SignatureDef]:
    saved = SavedModel()
    saved.ParseFromString(path.read_bytes())
    graphs = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    if not graphs:
        raise ValueError("it has no graph with the tag 'serve'")
    # TensorFlow adds a signature for initialisation, which clients cannot call.
    return {key: value for key, value in graphs[0].signature_def.items() if not key.startswith("__")}


def _predictor(loaded: Any, signatures: Mapping[str, SignatureDef], batching: Batching | None) -> Predict:
    functions = {
        key: batched(loaded.signatures[key], signature, batching) if batching else loaded.signatures[key]
        for key, signature in signatures.items()
    }

    def predict(signature: str, inputs: Arrays) -> Arrays:
        # Refers to `loaded` on purpose: the functions alone do not keep its variables alive.
        assert loaded
        results = functions[signature](**{key: tf.constant(value) for key, value in inputs.items()})
        return {key: results[key].numpy() for key in signatures[signature].outputs}

    return predict


def _warm_up(servable: Servable, records: Path) -> None:
    if not records.is_file():
        return
    count = 0
    for record in tf.data.TFRecordDataset(str(records)):
        request = PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
        servable.predict(request.model_spec.signature_name or SERVING_DEFAULT, inputs)
        count += 1
    _log.info("ran %d warm-up requests", count)
