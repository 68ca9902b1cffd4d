"""The head of a cluster: whether it is alive, and the end of the run if it is not."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc

from classify_client.cluster.machines.repeating import regularly
from classify_client.errors import ServiceError

_ALIVE_METHOD: Final = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""Of the head's gRPC service, in Ray's gcs_service.proto."""
_NO_ANSWER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_ANSWER_SECONDS: Final = 5.0
_LOST_SECONDS: Final = 40.0
"""Ray itself ends the process after 60 seconds without its head, with exit code 1 and without a word."""
_SHOW_CURSOR: Final = "\x1b[?25h\n"


def ask_head(address: str) -> grpc.StatusCode:
    """What the head at `HOST:PORT` answers; OK if it is alive."""
    try:
        with grpc.insecure_channel(address) as channel:
            ask: Any = channel.unary_unary(_ALIVE_METHOD)
            ask(b"", timeout=_ANSWER_SECONDS)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


@contextmanager
def head_watched(address: str) -> Iterator[None]:
    """While the block runs, end this process with one sentence if the head at `HOST:PORT` does not answer for long."""
    if ask_head(address) in _NO_ANSWER:
        # It answers only who encrypts.
        yield
        return
    answered = time.monotonic()

    def look() -> None:
        nonlocal answered
        if ask_head(address) not in _NO_ANSWER:
            answered = time.monotonic()
        elif time.monotonic() - answered > _LOST_SECONDS:
            message = (
                f"the head of the Ray cluster at {address} has ended: start the cluster, and run again to continue"
            )
            if sys.stderr:
                sys.stderr.write(f"{_SHOW_CURSOR if sys.stderr.isatty() else ''}Error: {message}\n")
                sys.stderr.flush()
            # The main thread is somewhere in Ray, which cannot be made to return without its head.
            os._exit(ServiceError.exit_code)

    with regularly(look, _ANSWER_SECONDS):
        yield
