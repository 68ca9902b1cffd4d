"""Control flow between the stages of inference; none of these reaches the user."""

from classify_client.inference.retry_policy import RetryAction


class RequestRefused(Exception):
    """A server refuses one request; the run continues. `action` says what may still help."""

    def __init__(self, message: str, action: RetryAction) -> None:
        super().__init__(message)
        self.action = action


class ModelChanged(Exception):
    """The model that answers now needs its images decoded in another way."""


class Stopped(Exception):
    """The run ends before this request was answered."""
