"""Errors that a user can fix; each message is one sentence that says what to do.

TrainingError
├── DatasetError     the dataset cannot be trained on
├── CacheError       decoded images or features cannot be written to disk
├── RunError         the folder of a run cannot be written, or a configuration cannot be read
├── FitError         the training diverged
├── TimeBudgetError  a time budget leaves no time to train
├── WeightsError     the pretrained weights cannot be downloaded or read, or do not fit
├── MapError         the embedding map cannot be drawn
├── CorrectionError  a review cannot be applied to the dataset
├── QuantizationError  a model cannot be quantized
│   └── AnswersDifferError  with 8-bit integers it would answer too differently
└── ExportError      the model cannot be written, or differs from the trained model
"""


class TrainingError(Exception):
    """Base class; `exit_code` is the exit code of `classify-train`."""

    exit_code = 1


class DatasetError(TrainingError):
    """The dataset cannot be trained on: it is missing, empty or has a single class."""

    exit_code = 2


class CacheError(TrainingError):
    """The cache of decoded images or of features cannot be written."""


class RunError(TrainingError):
    """The folder of a run cannot be written, or a configuration cannot be read."""

    exit_code = 2


class FitError(TrainingError):
    """The training diverged."""


class TimeBudgetError(TrainingError):
    """The time budget leaves no time to train after what comes before and after it."""

    exit_code = 2


class WeightsError(TrainingError):
    """The pretrained weights cannot be downloaded or read, or belong to another architecture."""


class MapError(TrainingError):
    """There are no embeddings to draw, or the map cannot be written."""

    exit_code = 2


class CorrectionError(TrainingError):
    """A review cannot be read, contradicts itself, or does not fit the current dataset."""

    exit_code = 2


class ExportError(TrainingError):
    """The SavedModel cannot be written, or does not agree with the trained model."""


class QuantizationError(TrainingError):
    """The model or the dataset to quantize it with is missing, or of another kind."""

    exit_code = 2


class AnswersDifferError(QuantizationError):
    """With 8-bit integers the model would answer too differently, or not at all on some processors."""

    exit_code = 1
