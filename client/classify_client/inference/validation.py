"""Checks of everything that a server sends, done once when it arrives, so that later code can rely on the values."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_serving.contract.model import ContractError, ModelMetadata
from classify_serving.contract.wire_pb2 import TensorProto

MAX_MESSAGE_BYTES: Final = 64 << 20
"""Largest answer that is received; one of 256 images with embeddings and heat maps has less than 4 MiB."""
_MAX_VALUES: Final = 1 << 24
_MAX_DIMENSIONS: Final = 8
_MAX_IMAGE_SIZE: Final = 4096
_MAX_CLASSES: Final = 100_000
_MAX_LABEL_BYTES: Final = 1 << 20
_MAX_RANKS: Final = 1000
_TOLERANCE: Final = 2**-7
"""Of probabilities: reduced precision on a server makes sums that are not exactly 1.

bfloat16 has 8 significant bits, so that rounding changes each probability by up to 1 in 256, and their sum too.
"""


class AnswerError(ValueError):
    """A value in an answer that no model of the contract sends; the message says which."""


def check_shape(tensor: TensorProto) -> None:
    """Refuse a tensor whose shape is negative or too large, before memory is allocated for it.

    Raises:
        AnswerError: it is.
    """
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    if len(sizes) > _MAX_DIMENSIONS or any(size < 0 for size in sizes) or math.prod(sizes) > _MAX_VALUES:
        shown = ", ".join(map(str, sizes[:_MAX_DIMENSIONS]))
        raise AnswerError(f"a tensor of shape [{shown}]")


def check_metadata(metadata: ModelMetadata) -> None:
    """Refuse metadata with sizes and names that no model has.

    Raises:
        ContractError: it has such values.
    """
    if not 1 <= metadata.image_size <= _MAX_IMAGE_SIZE:
        raise ContractError(f"an image size of {metadata.image_size} pixels")
    names = metadata.class_names
    if not 1 <= len(names) <= _MAX_CLASSES or len(set(names)) != len(names):
        raise ContractError(f"{len(names)} class names, of which {len(set(names))} are different")
    if max(len(name) for name in (*names, *metadata.merges, *metadata.merges.values())) > _MAX_LABEL_BYTES:
        raise ContractError("a class name that is too long")


def check_predictions(labels: NDArray[np.generic], probabilities: NDArray[np.generic], images: int) -> None:
    """Refuse predictions that are not K ranked classes for each image.

    Args:
        labels: should be bytes [N,K].
        probabilities: should be floating point [N,K], 0-1, in descending order, with a sum of at most 1.
        images: N.

    Raises:
        AnswerError: they are not.
    """
    if labels.ndim != 2 or labels.shape != probabilities.shape or len(labels) != images or not labels.size:
        raise AnswerError(f"{labels.shape} labels and {probabilities.shape} probabilities for {images} images")
    if labels.shape[1] > _MAX_RANKS:
        raise AnswerError(f"{labels.shape[1]} classes for each image")
    if labels.dtype != np.object_ or not np.issubdtype(probabilities.dtype, np.floating):
        raise AnswerError(f"labels of type {labels.dtype} and probabilities of type {probabilities.dtype}")
    if max(len(label) for label in labels.ravel().tolist()) > _MAX_LABEL_BYTES:
        raise AnswerError("a label that is too long")
    values = probabilities.astype(np.float64)
    # Written so that NaN fails.
    in_range = (values >= -_TOLERANCE).all() and (values.sum(axis=1) <= 1 + _TOLERANCE).all()
    if not in_range or not (np.diff(values, axis=1) <= _TOLERANCE).all():
        raise AnswerError("probabilities that are not between 0 and 1 in descending order, with a sum of at most 1")
