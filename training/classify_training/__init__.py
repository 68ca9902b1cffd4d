"""From a folder of labelled images to a SavedModel that TensorFlow Serving hosts."""

__version__ = "0.2.0"
