"""What a model exported by training promises, and a client may rely on: signatures and metadata.

| signature         | input                         | outputs                                       |
|-------------------|-------------------------------|-----------------------------------------------|
| `serving_default` | `images` uint8 [N,S,S,3] RGB  | `probabilities` f32 [N,C]; best first, K = min(5, C): |
|                   |                               | `top_labels` string [N,K], `top_probabilities` f32 [N,K] |
| `encoded`         | `image_bytes` string [N]      | as `serving_default`                          |
| `embed`           | `images`                      | `embedding` f32 [N,512]                       |
| `explain`         | `images`                      | `heatmap` f32 [N,h,w] in 0-1, and those of `serving_default` |
| `metadata`        | `request` string [N], ignored | `json` string [N]: `ModelMetadata`, repeated  |

The first dimension of every input and output is the batch, as TensorFlow Serving's batching requires.
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
"""TFRecord of `PredictionLog`s below a version's folder; a fixed name of TensorFlow Serving's."""


class ContractError(Exception):
    """Metadata that is not of this contract; the message says what is wrong."""


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """What a model says of itself, as JSON, through its `metadata` signature.

    Attributes:
        schema_version: of this record; a reader refuses a higher one than it knows.
        model_name: name of the served model, the folder above the version.
        model_version: the version's number.
        class_names: class of each output, in output order.
        merges: training folder name -> class that it was merged into.
        image_size: side S of the square input in pixels.
        resize: how an image of another aspect ratio was made square.
        precision: number format of the computation, such as `float32`.
        train_counts_before: training images of each folder before merging and balancing.
        train_counts_after: training images of each class an epoch sees, after both.
        test_metrics: measured on the held-out test split, such as `accuracy`, in 0-1.
        dataset_fingerprint: SHA-256 over contents, labels and splits of the training dataset, as hex.
        tensorflow_version: that trained and exported it.
        keras_version: likewise.
        created: UTC time of the export, ISO 8601.
        temperature: that the logits were divided by before softmax, so that probabilities are calibrated.
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

    def to_json(self) -> bytes:
        """UTF-8 JSON, read back by `from_json`."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> "ModelMetadata":
        """Read metadata; fields that are not known are ignored.

        Raises:
            ContractError: not this record, or of a newer schema.
        """
        try:
            metadata = msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise ContractError(f"the model's metadata cannot be read: {error}") from error
        if metadata.schema_version > SCHEMA_VERSION:
            raise ContractError(
                f"the model's metadata has schema {metadata.schema_version} and this program knows"
                f" {SCHEMA_VERSION}: upgrade it"
            )
        return metadata

    def true_class(self, label: str) -> str | None:
        """The class an image filed under folder `label` should be given; None if no class of this model."""
        merged = self.merges.get(label, label)
        return merged if merged in self.class_names else None
