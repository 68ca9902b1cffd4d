"""Classify folders of images against a model server, and see what it got wrong."""

import os

__version__ = "0.1.0"

# gRPC writes failed handshakes to stderr, and reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
