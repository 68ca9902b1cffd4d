"""Signatures and metadata of every exported model: training writes them, clients rely on them.

| signature         | input                         | outputs                                       |
|-------------------|-------------------------------|-----------------------------------------------|
| `serving_default` | `images` uint8 [N,S,S,3] RGB  | `probabilities` f32 [N,C]; best first, K = min(5, C): |
|                   |                               | `top_labels` string [N,K], `top_probabilities` f32 [N,K] |
| `encoded`         | `image_bytes` string [N]      | as `serving_default`                          |
| `embed`           | `images`                      | `embedding` f32 [N,512]                       |
| `explain`         | `images`                      | `heatmap` f32 [N,h,w] in 0-1, plus those of `serving_default` |
| `metadata`        | `request` string [N], ignored | `json` string [N]: `ModelMetadata`, repeated  |

N: images in the batch, S: side in pixels, C: classes, K: classes in a top list, h x w: size of the feature map.
The first dimension of every input and output is the batch; TensorFlow Serving's batching requires that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from classify_serving.contract.images import Resize

SERVING_DEFAULT: Final = "serving_default"
ENCODED: Final = "encoded"
EMBED: Final = "embed"
EXPLAIN: Final = "explain"
METADATA: Final = "metadata"
SIGNATURES: Final = (SERVING_DEFAULT, ENCODED, EMBED, EXPLAIN, METADATA)

IMAGES: Final = "images"
IMAGE_BYTES: Final = "image_bytes"
REQUEST: Final = "request"

PROBABILITIES: Final = "probabilities"
TOP_LABELS: Final = "top_labels"
TOP_PROBABILITIES: Final = "top_probabilities"
EMBEDDING: Final = "embedding"
HEATMAP: Final = "heatmap"
JSON: Final = "json"

TOP_K: Final = 5
EMBEDDING_WIDTH: Final = 512
SCHEMA_VERSION: Final = 1
WARMUP_FILE: Final = "assets.extra/tf_serving_warmup_requests"
"""TFRecord file of `PredictionLog` messages in a version's folder; TensorFlow Serving requires this name."""


class ContractError(Exception):
    """A model's metadata cannot be read; the message says what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How a version that computes with 8-bit integers was made of a float32 version, and how well it agrees with it.

    Attributes:
        source_version: number of the float32 version.
        calibration_images: number of images from which the ranges of the integers were found.
        calibration_fingerprint: SHA-256 of these images' contents, as hexadecimal digits.
        compared_images: number of other images on which both versions were asked.
        changed: how many of these got another class.
        source_accuracy: share of the float32 version's answers that agree with the images' labels, 0-1.
        accuracy: the same of this version.
    """

    source_version: int
    calibration_images: int
    calibration_fingerprint: str
    compared_images: int
    changed: int
    source_accuracy: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Description of a model, which its `metadata` signature returns as JSON.

    Attributes:
        schema_version: version of this record; a reader refuses a higher version than it knows.
        model_name: name of the served model: the folder that contains the version's folder.
        model_version: the version's number.
        class_names: the classes, in the order of the output `probabilities`.
        merges: name of a training folder -> class that the folder was merged into.
        image_size: side S of the square input, in pixels.
        resize: how images were made square: `stretch`, `pad` or `crop`.
        precision: number format of the computation: `float32` or `int8`.
        train_counts_before: training images per folder, before merging and balancing.
        train_counts_after: training images per class in one epoch, after merging and balancing.
        test_metrics: metrics on the held-out test split, such as `accuracy`, in 0-1.
        dataset_fingerprint: SHA-256 of the dataset's contents, labels and splits, as hexadecimal digits.
        tensorflow_version: TensorFlow's version at training and export.
        keras_version: Keras' version at training and export.
        created: time of the export, ISO 8601, UTC.
        temperature: the logits are divided by this number before softmax, which calibrates the probabilities
            (temperature scaling, https://arxiv.org/abs/1706.04599).
        quantization: how an int8 version was made; None for other versions.
    """

    schema_version: int
    model_name: str
    model_version: int
    class_names: tuple[str, ...]
    merges: Mapping[str, str]
    image_size: int
    resize: Resize
    precision: str
    train_counts_before: Mapping[str, int]
    train_counts_after: Mapping[str, int]
    test_metrics: Mapping[str, float]
    dataset_fingerprint: str
    tensorflow_version: str
    keras_version: str
    created: str
    temperature: float = 1.0
    quantization: Quantization | None = None

    def to_json(self) -> bytes:
        """Encode as JSON in UTF-8; `from_json` reads it back."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> "ModelMetadata":
        """Decode metadata from JSON; unknown fields are ignored.

        Raises:
            ContractError: the JSON is not this record, or has a newer schema version.
        """
        try:
            metadata = msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise ContractError(f"the model's metadata cannot be read: {error}") from error
        if metadata.schema_version > SCHEMA_VERSION:
            raise ContractError(
                f"the model's metadata has schema version {metadata.schema_version}, but this program reads up to"
                f" version {SCHEMA_VERSION}: upgrade this program"
            )
        return metadata

    def true_class(self, label: str) -> str | None:
        """The correct class, after merges, of an image in a folder named `label`; None if the model has none for it."""
        merged = self.merges.get(label, label)
        return merged if merged in self.class_names else None
