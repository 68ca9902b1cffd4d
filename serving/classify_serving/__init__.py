"""The contract between training, TensorFlow Serving and the client, and an embedded server."""

__version__ = "0.1.0"
