"""Fine-tune a classifier on a folder of labelled images and export it for TensorFlow Serving."""

__version__ = "0.2.0"
