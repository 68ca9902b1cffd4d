"""Encryption and clients' certificates, as TensorFlow Serving's `--ssl_config_file` sets them; gRPC only, as there."""

from pathlib import Path

import grpc
from google.protobuf import text_format

from classify_serving.server.ssl_config_pb2 import SSLConfig


class SslError(Exception):
    """An SSL configuration that cannot be used; one sentence, naming the file."""


def read_credentials(path: Path) -> grpc.ServerCredentials:
    """Read an `--ssl_config_file`, text format of `SSLConfig` with the PEM texts inside it.

    With `client_verify`, only clients with a certificate that `custom_ca` signed are answered.

    Raises:
        SslError: it cannot be read, has a field that does not exist, or lacks a part.
    """
    try:
        config = text_format.Parse(path.read_text(), SSLConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise SslError(f"{path} does not hold an SSL configuration ({error}): correct it") from error
    for name, needed in (("server_key", True), ("server_cert", True), ("custom_ca", config.client_verify)):
        if needed and "-----BEGIN" not in getattr(config, name):
            raise SslError(f"{path} has no {name} in PEM: add it")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
