"""What can go wrong in a training that its user can mend; each message is one sentence with the remedy.

TrainingError
├── DatasetError   the dataset cannot be trained on
├── CacheError     decoded images or features cannot be written to disk
├── RunError       the folder of a run cannot be written, or a configuration not be read
├── FitError       the training diverged
├── WeightsError   the pretrained weights cannot be had or do not fit
├── MapError       the embeddings of a run cannot be drawn
├── MendError      a review cannot be applied to the dataset
└── ExportError    the model cannot be written, or is not what was trained
"""


class TrainingError(Exception):
    """Root of the tree; `exit_code` is what `classify-train` ends with."""

    exit_code = 1


class DatasetError(TrainingError):
    """The dataset cannot be trained on: missing, empty, one class only."""

    exit_code = 2


class CacheError(TrainingError):
    """The cache of decoded images or of features cannot be written."""


class RunError(TrainingError):
    """The folder of a run cannot be written, or its configuration not be read."""


class FitError(TrainingError):
    """The training diverged."""


class WeightsError(TrainingError):
    """The pretrained weights cannot be downloaded or read, or are of another architecture."""


class MapError(TrainingError):
    """There are no embeddings to draw, or the map cannot be written."""

    exit_code = 2


class MendError(TrainingError):
    """A review cannot be read, contradicts itself, or does not fit the dataset as it is now."""

    exit_code = 2


class ExportError(TrainingError):
    """The SavedModel cannot be written, or does not agree with the model that was trained."""
