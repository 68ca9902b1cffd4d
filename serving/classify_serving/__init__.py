"""The contract between training, TensorFlow Serving and the client, and an embedded server."""

__version__ = "0.2.0"
