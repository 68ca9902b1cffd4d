"""Classify folders of images with a model server, and see the wrong predictions."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from classify_client.api import Classification as Classification
    from classify_client.api import classify as classify
    from classify_client.errors import ClassifyError as ClassifyError
    from classify_client.inference.connection import Connection as Connection

__version__ = "0.2.0"

# Otherwise gRPC prints failed handshakes; it reads this variable when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# Imported on first use, because --help must not import NumPy or gRPC.
_MODULES: Final = {
    "Classification": "api",
    "ClassifyError": "errors",
    "Connection": "inference.connection",
    "classify": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
