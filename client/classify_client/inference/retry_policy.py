"""What a failed request means and what is done about it: the only place with rules for retrying.

| status | detail | cause | action |
|---|---|---|---|
| UNAVAILABLE | TLS handshake, certificate | keys that do not match | ABORT |
| UNAVAILABLE | no HTTP/2 frame | another kind of server, such as REST | ABORT |
| UNAVAILABLE | queue full | more requests than the server accepts | THROTTLE |
| UNAVAILABLE | | starting, restarting, gone | RETRY |
| RESOURCE_EXHAUSTED | none | all threads are busy | THROTTLE |
| RESOURCE_EXHAUSTED | message larger than max; OOM | too many images at once | SPLIT |
| any | timeout exceeded while waiting in batching queue | the deadline was too short | EXTEND_DEADLINE |
| DEADLINE_EXCEEDED | | slow or hanging server | EXTEND_DEADLINE |
| INVALID_ARGUMENT | task size | more images than `max_batch_size` | SPLIT |
| INVALID_ARGUMENT | unrecognized servable version label | no version has this label | ABORT |
| INVALID_ARGUMENT, and every status not listed | | an image of this batch, or all | BISECT |
| FAILED_PRECONDITION | | the model cannot do this at all | FAIL_REQUEST |
| NOT_FOUND | | no such model, or not loaded yet | RETRY at the start, else ABORT |
| CANCELLED, ABORTED, INTERNAL with RST_STREAM | | the connection was cut by a proxy | RETRY |
| UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED | | no access, or not TensorFlow Serving | ABORT |

gRPC itself sends a request again only if the server declares, while it closes a connection, that it has never seen it.
"""

import random
from enum import Enum
from typing import Final

import grpc
from grpc import StatusCode


class RetryAction(Enum):
    """What to do with a failed request."""

    RETRY = "send it again after a pause, to another server if there is one"
    THROTTLE = "send it again after a pause, with fewer requests in flight"
    EXTEND_DEADLINE = "send it again after a pause, with a longer deadline"
    SPLIT = "send it in halves, and all later requests of this size as well"
    BISECT = "send it in halves until the image that causes the error is alone"
    FAIL_REQUEST = "do not send it again: its images fail, the run continues"
    ABORT = "do not send it again: the run ends"


# The first rule that matches counts; None is any status, and texts are compared without regard to case.
_RULES: Final[tuple[tuple[StatusCode | None, str, RetryAction], ...]] = (
    (None, "timeout exceeded while waiting in batching queue", RetryAction.EXTEND_DEADLINE),
    (StatusCode.UNAVAILABLE, "handshake", RetryAction.ABORT),
    (StatusCode.UNAVAILABLE, "verification check", RetryAction.ABORT),
    (StatusCode.UNAVAILABLE, "frame", RetryAction.ABORT),
    (StatusCode.UNAVAILABLE, "queue", RetryAction.THROTTLE),
    (StatusCode.UNAVAILABLE, "", RetryAction.RETRY),
    (StatusCode.RESOURCE_EXHAUSTED, "message larger than max", RetryAction.SPLIT),
    (StatusCode.RESOURCE_EXHAUSTED, "oom when allocating", RetryAction.SPLIT),
    (StatusCode.RESOURCE_EXHAUSTED, "", RetryAction.THROTTLE),
    (StatusCode.DEADLINE_EXCEEDED, "", RetryAction.EXTEND_DEADLINE),
    (StatusCode.INVALID_ARGUMENT, "task size", RetryAction.SPLIT),
    (StatusCode.INVALID_ARGUMENT, "unrecognized servable version label", RetryAction.ABORT),
    (StatusCode.FAILED_PRECONDITION, "", RetryAction.FAIL_REQUEST),
    (StatusCode.NOT_FOUND, "", RetryAction.ABORT),
    (StatusCode.CANCELLED, "", RetryAction.RETRY),
    (StatusCode.ABORTED, "", RetryAction.RETRY),
    (StatusCode.INTERNAL, "rst_stream", RetryAction.RETRY),
    (StatusCode.UNAUTHENTICATED, "", RetryAction.ABORT),
    (StatusCode.PERMISSION_DENIED, "", RetryAction.ABORT),
    (StatusCode.UNIMPLEMENTED, "", RetryAction.ABORT),
    (None, "", RetryAction.BISECT),
)


def retry_action(code: StatusCode, details: str, starting: bool = False) -> RetryAction:
    """What to do about a status; `starting` is true until a server has answered."""
    if starting and code is StatusCode.NOT_FOUND:
        return RetryAction.RETRY
    text = details.lower()
    return next(action for status, part, action in _RULES if status in (None, code) and part in text)


def pause(failures: int, first: float = 0.1, longest: float = 3.0) -> float:
    """Seconds to wait before the next request to a server that failed `failures` times in a row.

    Exponential back-off with equal jitter
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that many clients do not return
    at the same moment.
    """
    return min(longest, first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)


def short_reason(error: grpc.RpcError) -> str:
    """What is wrong in a few words: the end of gRPC's chain of causes, or the status."""
    if error.code() is not StatusCode.UNAVAILABLE:
        return error.code().name.lower().replace("_", " ")
    details = _details(error)
    if "frame" in details:
        return "the program listening there does not speak gRPC"
    return details.removesuffix(": OK").rpartition(": ")[2].strip("[]. ") or "unavailable"


def error_message(error: grpc.RpcError, address: str) -> str:
    """The sentence that ends a run: what is wrong at `address`, and what to do."""
    match error.code():
        case StatusCode.UNAVAILABLE if "frame" in _details(error):
            return (
                f"{short_reason(error)}: {address} may be the REST port; correct --server"
                " (the gRPC port is 8500 by default)"
            )
        case StatusCode.UNAVAILABLE if retry_action(StatusCode.UNAVAILABLE, _details(error)) is RetryAction.ABORT:
            return (
                f"{address} and this client do not agree on TLS ({short_reason(error)}): correct --tls, --ca or"
                " --tls-name, or leave them out if the server does not encrypt"
            )
        case StatusCode.UNAVAILABLE:
            return (
                f"no server answers at {address} ({short_reason(error)}): start one (TensorFlow Serving, or"
                " classify-serve), or correct --server" + _closed_hint(error)
            )
        case StatusCode.DEADLINE_EXCEEDED:
            return f"the server at {address} did not answer in time: raise --timeout, or lower --batch-size"
        case StatusCode.INVALID_ARGUMENT:
            return (
                f"the server at {address} has no version with this label ({_details(error)}): correct --version-label,"
                " or --model"
            )
        case StatusCode.NOT_FOUND if "Specific(" in _details(error):
            return (
                f"the server at {address} does not serve this version of the model ({_details(error)}): correct"
                " --model-version, --version-label or --model, or wait until the server has loaded it"
            )
        case StatusCode.NOT_FOUND:
            return (
                f"the server at {address} does not have this model ({_details(error)}): correct --model, which is the"
                " name of the model's folder"
            )
        case StatusCode.UNIMPLEMENTED:
            return f"the server at {address} is not TensorFlow Serving: correct --server"
        case StatusCode.UNAUTHENTICATED | StatusCode.PERMISSION_DENIED:
            return (
                f"the server at {address} does not give this client access ({short_reason(error)}):"
                " correct --token-file or --cert"
            )
    return f"the server at {address} does not answer ({error.code().name}: {_details(error)})"


def _closed_hint(error: grpc.RpcError) -> str:
    """Servers close connections without a reason when TLS or a client certificate is missing."""
    hint = "; if it requires TLS or a certificate, add --tls or --cert"
    return hint if "Socket closed" in _details(error) else ""


def _details(error: grpc.RpcError) -> str:
    return " ".join((error.details() or "").split())
