"""`--local-server`: run `classify-serve` as a process for one run, and use it like any other server."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from classify_client.errors import ServiceError


@contextmanager
def local_server(model: Path) -> Iterator[tuple[str, str]]:
    """Serve a model's folder on a free local port while the block runs; gives (`host:port`, model name).

    The server ends with this process, however this process ends. Ctrl-C does not reach it before the requests in
    flight are answered. Options in the environment (`CLASSIFY_SERVE_...`) are about a server that the user starts; they
    do not reach this one.

    Raises:
        ServiceError: there is no model, or TensorFlow is not installed.
    """
    command = [sys.executable, "-m", "classify_serving", str(model), "--port", "0", "--until-stdin-closes"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLASSIFY_SERVE_")}
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield _read_address(process, log)
        finally:
            process.terminate()


def _read_address(process: "subprocess.Popen[str]", log: TextIO) -> tuple[str, str]:
    """Wait for the line `Serving NAME version N on HOST:PORT`."""
    assert process.stdout is not None
    words = process.stdout.readline().split()
    if not words:
        process.wait()
        log.seek(0)
        reason = (log.read().strip().splitlines() or ["it printed nothing"])[-1].removeprefix("Error: ")
        raise ServiceError(f"the local server did not start: {reason}")
    return words[-1], " ".join(words[1:-4])
