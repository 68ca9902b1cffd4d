"""Models with random weights that the benchmarks serve."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classify_serving.contract.model import SCHEMA_VERSION, ModelMetadata
from classify_serving.processor import has_bfloat16

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"


def bench_metadata(image_size: int) -> ModelMetadata:
    """Metadata of a model with eight classes, for images of this side in pixels."""
    return ModelMetadata(
        schema_version=SCHEMA_VERSION, model_name="bench", model_version=1,
        class_names=tuple(f"class {number}" for number in range(8)), merges={}, image_size=image_size, resize="stretch",
        precision="float32", train_counts_before={}, train_counts_after={}, test_metrics={}, dataset_fingerprint="",
        tensorflow_version="", keras_version="", created="",
    )  # fmt: skip


@dataclass(frozen=True)
class Version:
    """A model in a number format.

    Attributes:
        folder: of the SavedModel.
        mixed_precision: how the server rewrites it, as of `classify-serve --mixed-precision`.
    """

    folder: Path
    mixed_precision: str = "none"


def export_versions(folder: Path, size: int) -> Mapping[str, Version]:
    """Export a VGG16 for images of some size; gives the version to serve for each number format of this processor."""
    from classify_training.export.saved_model import export
    from classify_training.export.signatures import Signatures
    from classify_training.model.classifier import build_classifier
    from classify_training.quantization.calibration import calibrate
    from classify_training.quantization.int8_network import Int8Network
    from classify_training.quantization.signatures import Int8Signatures

    metadata = bench_metadata(size)
    images = np.random.default_rng(1).integers(0, 256, (32, size, size, 3), np.uint8)
    classifier = build_classifier(len(metadata.class_names), size, "random", output_init="glorot_uniform")
    float32 = export(Signatures(classifier, metadata), images, folder / FLOAT32 / "bench")
    network = Int8Network(classifier, calibrate(classifier, images, quiet=True))
    signatures = Int8Signatures(classifier, network, replace(metadata, precision=INT8))
    int8 = export(signatures, images, folder / INT8 / "bench")
    bfloat16 = {BFLOAT16: Version(float32, "bfloat16")} if has_bfloat16() else {}
    return {FLOAT32: Version(float32), **bfloat16, INT8: Version(int8)}
