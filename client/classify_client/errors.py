"""Errors that end a run; each message is one sentence with the host or file and what to do.

ClassifyError
├── InputError        there is nothing to classify, or a path does not exist
├── OutputError       the output folder cannot be used
│   └── OutputGone    it was deleted during the run
├── SettingsError     options contradict each other, or a key or token file cannot be used
└── ServiceError      no server answers, or the model is missing or of another kind
    └── ClusterError  machines or processes of a cluster failed
"""


class ClassifyError(Exception):
    """Base class; `exit_code` is the exit code of `classify-client`."""

    exit_code = 1


class InputError(ClassifyError):
    """There is nothing to classify."""

    exit_code = 2


class OutputError(ClassifyError):
    """Results cannot be written."""

    exit_code = 2


class OutputGone(OutputError):
    """The results file was deleted or replaced during the run, so there is nothing to analyse."""


class SettingsError(ClassifyError):
    """Options contradict each other, or a file that an option names cannot be used."""

    exit_code = 2


class ServiceError(ClassifyError):
    """No server can be reached, or it does not have the model."""

    exit_code = 3


class ClusterError(ServiceError):
    """Machines or processes of a cluster failed, and Ray could not replace them."""
