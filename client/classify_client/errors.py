"""What ends a run; each message is one sentence with the host or file and the remedy.

ClassifyError
├── InputError        nothing to classify, or a path that does not exist
├── OutputError       the output folder cannot be used
└── ServiceError      no server, no such model, or one that does not keep the contract
"""


class ClassifyError(Exception):
    """Root of the tree; `exit_code` is what `classify-client` ends with."""

    exit_code = 1


class InputError(ClassifyError):
    """There is nothing to classify."""

    exit_code = 2


class OutputError(ClassifyError):
    """Results cannot be written."""

    exit_code = 2


class ServiceError(ClassifyError):
    """The server cannot be reached, or does not have the model that is asked for."""

    exit_code = 3


class RequestRefused(Exception):
    """The server is there but refuses one request; its images fail, the run goes on."""
