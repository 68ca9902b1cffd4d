"""A PredictionService over a SavedModel for development, tests and machines without Docker.

It answers as TensorFlow Serving does (methods, status codes, messages), so that a client proved against it is
right there too; in production, TensorFlow Serving takes its place.
"""
