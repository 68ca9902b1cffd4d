"""Models with random weights that the benchmarks serve."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from servers import bench_metadata

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"


def export_versions(folder: Path, size: int) -> Mapping[str, Path]:
    """Export a VGG16 for images of some size; gives the version to serve for each number format."""
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
    return {FLOAT32: float32, BFLOAT16: float32, INT8: export(signatures, images, folder / INT8 / "bench")}
