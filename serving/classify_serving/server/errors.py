"""Errors of the local server.

ServerConfigError     the server cannot start with the given options
|-- AddressError      an address to listen on
|-- BatchingError     the batching parameters file
|-- ModelConfigError  the model configuration file
`-- SslError          the SSL configuration file
RequestError          a client's request is refused

`ServableError` (contract/versions.py) means that a model cannot be loaded.
"""

from typing import Final

import grpc

from classify_serving.contract.text import error_reason, printable

_MESSAGE_LENGTH: Final = 500


class ServerConfigError(Exception):
    """The server cannot start with the given options; the message says what is wrong and what to do."""


class AddressError(ServerConfigError):
    """The server cannot listen on an address; the message names the address."""


class BatchingError(ServerConfigError):
    """The batching parameters cannot be used; the message names the file."""


class ModelConfigError(ServerConfigError):
    """The model configuration cannot be used; the message names the file or the model."""


class SslError(ServerConfigError):
    """The SSL configuration cannot be used; the message names the file."""


class RequestError(Exception):
    """A request is refused.

    Args:
        code: the gRPC status of the answer.
        message: what is wrong. It may repeat what the client sent, so it is put on one line and shortened: gRPC cannot
            send a message of more than some kilobytes.

    Attributes:
        code: the gRPC status of the answer.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(printable(_one_line(message)))
        self.code = code


def _one_line(message: str) -> str:
    line = " ".join(message[: 2 * _MESSAGE_LENGTH].split())
    return line if len(line) <= _MESSAGE_LENGTH else f"{line[:_MESSAGE_LENGTH]} ..."


def invalid_argument(message: str) -> RequestError:
    """The error for a request that does not fit the model or the protocol."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def internal_error(error: Exception) -> RequestError:
    """The error for a request on which the model or the server itself fails in an unexpected way."""
    return RequestError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error_reason(error)}")
