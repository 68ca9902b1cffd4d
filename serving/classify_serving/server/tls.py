"""TLS for gRPC, configured by a file in the format of TensorFlow Serving's `--ssl_config_file`; REST has no TLS."""

from pathlib import Path

import grpc
from google.protobuf import text_format

from classify_serving.contract.text import error_reason
from classify_serving.server.errors import SslError
from classify_serving.server.ssl_config_pb2 import SSLConfig


def read_credentials(path: Path) -> grpc.ServerCredentials:
    """Read an `--ssl_config_file`: `SSLConfig` in protobuf's text format, with keys and certificates as PEM text.

    With `client_verify`, the server accepts only clients whose certificate was signed by `custom_ca`.

    Raises:
        SslError: the file cannot be read, has an unknown field, or lacks a key or certificate.
    """
    try:
        config = text_format.Parse(path.read_text(), SSLConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise SslError(
            f"cannot read an SSL configuration from {path} ({error_reason(error)}): correct the file"
        ) from error
    for name, needed in (("server_key", True), ("server_cert", True), ("custom_ca", config.client_verify)):
        if needed and "-----BEGIN" not in getattr(config, name):
            raise SslError(f"{path} has no {name} in PEM format: add it")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
