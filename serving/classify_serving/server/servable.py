"""What the embedded server serves: one version of a model, read from a SavedModel or made by a test."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from classify_serving.contract.model import WARMUP_FILE
from classify_serving.contract.versions import SAVED_MODEL, ServableError, find_version
from classify_serving.server.batching import Batching, batched

Arrays = Mapping[str, NDArray[np.generic]]
Predict = Callable[[str, Arrays], Arrays]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Servable:
    """One loaded version of a model.

    Attributes:
        name: the model's name in requests.
        version: its number.
        signatures: what each signature takes and gives.
        predict: signature name and inputs -> outputs; inputs have been checked against the signature.
    """

    name: str
    version: int
    signatures: Mapping[str, SignatureDef]
    predict: Predict


class Servables:
    """The version that answers now; a new one takes its place in one step.

    Requests that run on the old one keep it until they are done, and then its memory is freed.

    Args:
        servable: the first.
    """

    def __init__(self, servable: Servable) -> None:
        self.current = servable


def load_servable(folder: Path, name: str | None = None, batching: Batching | None = None) -> Servable:
    """Load the newest version below `folder` and run its warm-up requests.

    Args:
        folder: a model's folder `<name>/`, or a version's `<name>/<number>/`.
        name: the name to serve it under; the folder's by default.
        batching: how concurrent requests are merged; None runs each by itself.

    Raises:
        ServableError: no version there, or it cannot be loaded or fails its own warm-up.
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
        )
        _warm_up(servable, version / WARMUP_FILE)
    except (DecodeError, OSError, ValueError, KeyError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ServableError(f"the model in {version} cannot be loaded ({reason}): export it again") from error
    return servable


def _read_signatures(path: Path) -> dict[str, SignatureDef]:
    saved = SavedModel()
    saved.ParseFromString(path.read_bytes())
    graphs = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    if not graphs:
        raise ValueError("it has no graph tagged 'serve'")
    # TensorFlow adds an initialisation signature of its own, which nobody can call.
    return {key: value for key, value in graphs[0].signature_def.items() if not key.startswith("__")}


def _predictor(loaded: Any, signatures: Mapping[str, SignatureDef], batching: Batching | None) -> Predict:
    functions = {
        key: batched(loaded.signatures[key], signature, batching) if batching else loaded.signatures[key]
        for key, signature in signatures.items()
    }

    def predict(signature: str, inputs: Arrays) -> Arrays:
        # A function does not keep its variables alive; what they were loaded with does.
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
        servable.predict(request.model_spec.signature_name or "serving_default", inputs)
        count += 1
    _log.info("ran %d warm-up requests", count)
