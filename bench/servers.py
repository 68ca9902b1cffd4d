"""Servers that the benchmarks start: real ones, and one without a model."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from classify_serving.contract.model import SCHEMA_VERSION, ModelMetadata

HERE = Path(__file__).parent


def bench_metadata(image_size: int) -> ModelMetadata:
    """Metadata of a model with eight classes, for images of this side in pixels."""
    return ModelMetadata(
        schema_version=SCHEMA_VERSION, model_name="bench", model_version=1,
        class_names=tuple(f"class {number}" for number in range(8)), merges={}, image_size=image_size, resize="stretch",
        precision="float32", train_counts_before={}, train_counts_after={}, test_metrics={}, dataset_fingerprint="",
        tensorflow_version="", keras_version="", created="",
    )  # fmt: skip


@contextmanager
def server(*command: str) -> Iterator[str]:
    """Run a server; yields its address, which is the last word of the first line that it prints."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def null_server(image_size: int) -> Any:
    """A server without a model, which answers immediately."""
    return server(sys.executable, str(HERE / "null_server.py"), bench_metadata(image_size).to_json().decode())
