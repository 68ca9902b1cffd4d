"""What a failed request means and what is done about it: the only place with rules for retrying.

| status | detail | cause | remedy |
|---|---|---|---|
| UNAVAILABLE | TLS handshake, certificate | keys that do not fit | END |
| UNAVAILABLE | no HTTP/2 frame | a server of something else, such as REST | END |
| UNAVAILABLE | queue full | more requests than the server takes | EASE |
| UNAVAILABLE | | starting, restarting, gone | RETRY |
| RESOURCE_EXHAUSTED | none | threads used up | EASE |
| RESOURCE_EXHAUSTED | message larger than max; OOM | too many images at once | SPLIT |
| any | timeout exceeded while waiting in batching queue | the deadline was too short | LONGER |
| DEADLINE_EXCEEDED | | slow or hanging server | LONGER |
| INVALID_ARGUMENT | task size | more images than `max_batch_size` | SPLIT |
| INVALID_ARGUMENT, and whatever is not listed | | an image of this batch, or all | ISOLATE |
| FAILED_PRECONDITION | | the model cannot do this at all | REFUSE |
| NOT_FOUND | | no such model, or not loaded yet | RETRY at the start, else END |
| CANCELLED, ABORTED, INTERNAL with RST_STREAM | | the connection was cut by what is between | RETRY |
| UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED | | not for us, or no TensorFlow Serving | END |

gRPC itself repeats what failed before the server saw it, and UNAVAILABLE a few times at once, at another address
of the same name if there is one; what comes here outlasted that.
"""

import random
from enum import Enum
from typing import Final

import grpc
from grpc import StatusCode


class Remedy(Enum):
    """What to do with a request that failed."""

    RETRY = "again after a pause, at another server if there is one"
    EASE = "again after a pause, with fewer requests in flight"
    LONGER = "again after a pause, with a longer deadline"
    SPLIT = "never in this size: in halves, and so from now on"
    ISOLATE = "never as it is: in halves, until the image that is at fault is alone"
    REFUSE = "never: its images fail, the run goes on"
    END = "never: the run ends"


# The first that fits counts; None is any status, and texts are looked for without regard to case.
_RULES: Final[tuple[tuple[StatusCode | None, str, Remedy], ...]] = (
    (None, "timeout exceeded while waiting in batching queue", Remedy.LONGER),
    (StatusCode.UNAVAILABLE, "handshake", Remedy.END),
    (StatusCode.UNAVAILABLE, "verification check", Remedy.END),
    (StatusCode.UNAVAILABLE, "frame", Remedy.END),
    (StatusCode.UNAVAILABLE, "queue", Remedy.EASE),
    (StatusCode.UNAVAILABLE, "", Remedy.RETRY),
    (StatusCode.RESOURCE_EXHAUSTED, "message larger than max", Remedy.SPLIT),
    (StatusCode.RESOURCE_EXHAUSTED, "oom when allocating", Remedy.SPLIT),
    (StatusCode.RESOURCE_EXHAUSTED, "", Remedy.EASE),
    (StatusCode.DEADLINE_EXCEEDED, "", Remedy.LONGER),
    (StatusCode.INVALID_ARGUMENT, "task size", Remedy.SPLIT),
    (StatusCode.FAILED_PRECONDITION, "", Remedy.REFUSE),
    (StatusCode.NOT_FOUND, "", Remedy.END),
    (StatusCode.CANCELLED, "", Remedy.RETRY),
    (StatusCode.ABORTED, "", Remedy.RETRY),
    (StatusCode.INTERNAL, "rst_stream", Remedy.RETRY),
    (StatusCode.UNAUTHENTICATED, "", Remedy.END),
    (StatusCode.PERMISSION_DENIED, "", Remedy.END),
    (StatusCode.UNIMPLEMENTED, "", Remedy.END),
    (None, "", Remedy.ISOLATE),
)


def remedy_for(code: StatusCode, details: str, starting: bool = False) -> Remedy:
    """What to do about a status; `starting` while no server has answered yet."""
    if starting and code is StatusCode.NOT_FOUND:
        return Remedy.RETRY
    text = details.lower()
    return next(remedy for status, part, remedy in _RULES if status in (None, code) and part in text)


def pause(failures: int, first: float = 0.1, longest: float = 3.0) -> float:
    """Seconds to leave a server alone after it failed `failures` times in a row.

    Exponential with full jitter, but at least half (equal jitter in
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that clients do not come back
    together.
    """
    return min(longest, first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)


def reason_of(error: grpc.RpcError) -> str:
    """What is wrong in a few words: the end of gRPC's chain of causes, or the status."""
    if error.code() is not StatusCode.UNAVAILABLE:
        return error.code().name.lower().replace("_", " ")
    details = _details(error)
    if "frame" in details:
        return "what listens there speaks no gRPC"
    return details.removesuffix(": OK").rpartition(": ")[2].strip("[]. ") or "unavailable"


def explain(error: grpc.RpcError, address: str) -> str:
    """The sentence that ends a run: what is wrong at `address`, and what to do."""
    match error.code():
        case StatusCode.UNAVAILABLE if "frame" in _details(error):
            return f"{reason_of(error)}: {address} may be the REST port; correct --server (gRPC's is 8500 by default)"
        case StatusCode.UNAVAILABLE if remedy_for(StatusCode.UNAVAILABLE, _details(error)) is Remedy.END:
            return (
                f"{address} and this client do not agree on TLS ({reason_of(error)}): correct --tls, --ca or"
                " --tls-name, or leave them out if the server does not encrypt"
            )
        case StatusCode.UNAVAILABLE:
            return (
                f"no server answers at {address} ({reason_of(error)}): start one (TensorFlow Serving, or"
                " classify-serve), or correct --server" + _closed_hint(error)
            )
        case StatusCode.DEADLINE_EXCEEDED:
            return f"the server at {address} did not answer in time: raise --timeout, or lower --batch-size"
        case StatusCode.NOT_FOUND:
            return f"the server at {address} does not have this model ({_details(error)}): correct --model"
        case StatusCode.UNIMPLEMENTED:
            return f"what listens at {address} is no TensorFlow Serving: correct --server"
        case StatusCode.UNAUTHENTICATED | StatusCode.PERMISSION_DENIED:
            return (
                f"the server at {address} does not let this client in ({reason_of(error)}):"
                " correct --token-file or --cert"
            )
    return f"the server at {address} does not answer ({error.code().name}: {_details(error)})"


def _closed_hint(error: grpc.RpcError) -> str:
    """Servers close connections without a word when TLS or our certificate is missing."""
    return "; if it wants TLS or a certificate, add --tls or --cert" if "Socket closed" in _details(error) else ""


def _details(error: grpc.RpcError) -> str:
    return " ".join((error.details() or "").split())
