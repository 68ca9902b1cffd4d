"""What training, server and client agree on, and a local server that stands in for TensorFlow Serving."""

__version__ = "0.2.0"
