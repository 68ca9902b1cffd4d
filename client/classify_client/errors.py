"""What ends a run; each message is one sentence with the host or file and the remedy.

ClassifyError
├── InputError        nothing to classify, or a path that does not exist
├── OutputError       the output folder cannot be used
├── SettingsError     options that do not fit together, or a file of keys that cannot be used
└── ServiceError      no server, no such model, or one that does not keep the contract
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classify_client.inference.retry_policy import Remedy


class ClassifyError(Exception):
    """Root of the tree; `exit_code` is what `classify-client` ends with."""

    exit_code = 1


class InputError(ClassifyError):
    """There is nothing to classify."""

    exit_code = 2


class OutputError(ClassifyError):
    """Results cannot be written."""

    exit_code = 2


class SettingsError(ClassifyError):
    """What is asked for makes no sense, or a file that it names is not what it should be."""

    exit_code = 2


class ServiceError(ClassifyError):
    """The server cannot be reached, or does not have the model that is asked for."""

    exit_code = 3


class RequestRefused(Exception):
    """The server is there but refuses one request; the run goes on. `remedy` says what may still help."""

    def __init__(self, message: str, remedy: "Remedy") -> None:
        super().__init__(message)
        self.remedy = remedy


class ModelChanged(Exception):
    """The model that answers now wants its images in another way than they were decoded."""


class Stopped(Exception):
    """The run is to end before this request was answered."""
