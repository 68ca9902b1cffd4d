"""The version of a model that is quantized."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from classify_serving.contract import model as contract
from classify_serving.contract.model import ContractError, ModelMetadata
from classify_serving.contract.versions import ServableError, find_version, newest_version
from classify_training.config import HeadFeatures
from classify_training.errors import QuantizationError
from classify_training.model.classifier import Classifier, build_classifier
from classify_training.model.vgg16 import VGG16

_HEADS: Final[tuple[HeadFeatures, ...]] = ("last", "multi-level")


@dataclass(frozen=True)
class Source:
    """A float32 version.

    Attributes:
        path: its folder.
        newest: number of the model's newest version when it was read.
        metadata: what it says of itself.
        classifier: the model, rebuilt from its variables.
        serve: the exported function of the signature `serving_default`.
    """

    path: Path
    newest: int
    metadata: ModelMetadata
    classifier: Classifier
    serve: Any


def read_source(folder: Path) -> Source:
    """Read the newest version in a model's folder.

    Raises:
        QuantizationError: there is none, it is not of this kind of model, or it is int8 already.
    """
    try:
        path = find_version(folder)
        if path == folder:
            raise QuantizationError(
                f"{folder} is one version: give the folder of its model, {folder.absolute().parent}, whose newest"
                " version is quantized"
            )
        newest = newest_version(path.parent)
        loaded = tf.saved_model.load(str(path))
        described = loaded.signatures[contract.METADATA](request=tf.constant([b""]))[contract.JSON].numpy()[0]
        metadata = ModelMetadata.from_json(described)
    except (ServableError, ContractError) as error:
        raise QuantizationError(str(error)) from error
    except KeyError as error:
        raise QuantizationError(
            f"the model in {folder} has no signature {error}: give the folder of a model that classify-train exported"
        ) from error
    except (OSError, ValueError, IndexError, AttributeError, tf.errors.OpError) as error:
        reason = str(error).partition("\n")[0]
        raise QuantizationError(
            f"cannot read the model in {folder} ({reason}): it is damaged or was not exported by classify-train; copy"
            " it again, or train again"
        ) from error
    if metadata.quantization:
        raise QuantizationError(
            f"version {metadata.model_version} of {folder} computes with 8-bit integers already (it was made of"
            f" version {metadata.quantization.source_version}): there is nothing to do"
        )
    classifier = _rebuild(loaded, metadata, path)
    # The function alone does not keep the variables alive.
    return Source(
        path, newest, metadata, classifier, lambda **inputs: loaded.signatures[contract.SERVING_DEFAULT](**inputs)
    )


def _rebuild(loaded: Any, metadata: ModelMetadata, path: Path) -> Classifier:
    """The Keras model whose variables a SavedModel has."""
    variables = [each.numpy() for each in loaded.signatures[contract.SERVING_DEFAULT].variables]
    shapes = [value.shape for value in variables]
    for head_features in _HEADS:
        for standardise in (True, False):
            classifier = build_classifier(
                len(metadata.class_names),
                metadata.image_size,
                "random",
                network=VGG16,
                head_features=head_features,
                standardise=standardise,
            )
            if [weight.shape for weight in classifier.model.get_weights()] == shapes:
                classifier.model.set_weights(variables)
                return classifier
    raise QuantizationError(f"{path} is not a {VGG16.name} that classify-train exported: it cannot be quantized")
