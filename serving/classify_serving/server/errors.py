"""Errors of the local server.

ServerConfigError     the server cannot start with the given options
|-- AddressError      an address to listen on
|-- BatchingError     the batching parameters file
`-- SslError          the SSL configuration file
RequestError          a client's request is refused

`ServableError` (contract/versions.py) means that a model cannot be loaded.
"""

import grpc


class ServerConfigError(Exception):
    """The server cannot start with the given options; the message says what is wrong and what to do."""


class AddressError(ServerConfigError):
    """The server cannot listen on an address; the message names the address."""


class BatchingError(ServerConfigError):
    """The batching parameters cannot be used; the message names the file."""


class SslError(ServerConfigError):
    """The SSL configuration cannot be used; the message names the file."""


class RequestError(Exception):
    """A request is refused.

    Attributes:
        code: the gRPC status of the answer.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid_argument(message: str) -> RequestError:
    """The error for a request that does not fit the model or the protocol."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
