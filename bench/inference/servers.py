"""Servers that the benchmarks start: real ones, and one without a model."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.inference.exported_models import Version, bench_metadata


@contextmanager
def server(*command: str) -> Iterator[str]:
    """Run a server; yields its address, which is the last word of the first line that it prints."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def model_server(version: Version, *options: str) -> Any:
    """The local server of a model, with more options of `classify-serve`."""
    serve = (sys.executable, "-m", "classify_serving", str(version.folder), "--port", "0", "--until-stdin-closes")
    return server(*serve, "--mixed-precision", version.mixed_precision, *options)


def null_server(image_size: int, seconds: float = 0.0) -> Any:
    """A server without a model, which answers immediately, or one batch after another in so many seconds each."""
    metadata = bench_metadata(image_size).to_json().decode()
    return server(sys.executable, "-m", "bench.inference.null_server", metadata, str(seconds))
