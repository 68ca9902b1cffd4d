"""A local S3 server, and how programs find it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def s3_server() -> Iterator[str]:
    """An empty server until the block ends; yields its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_environment(endpoint: str) -> Mapping[str, str]:
    """The environment variables of programs that use this server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
    }
