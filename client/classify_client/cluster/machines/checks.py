"""What each machine of a cluster must have for a run; `check_machine` runs there."""

import os
import socket
from pathlib import Path

import pyarrow

from classify_client import __version__
from classify_client.cluster.storage.location import Location
from classify_client.cluster.storage.manifest import read_manifest
from classify_serving.contract.images import ImageError
from classify_serving.contract.text import error_reason


def check_machine(version: str, marker: Location, token: str, model: Path | None, image: pyarrow.Table | None) -> str:
    """What is wrong on this machine for a run that was started on another, with the remedy; empty if nothing is.

    Args:
        version: of the package there.
        marker: a file that was written into the output folder there.
        token: its content.
        model: the folder of the model that is to be served here, if any.
        image: a manifest of one image that could be read there; None to check no image.
    """
    if version != __version__:
        return f"classify-client {__version__} is installed, not {version}: install the same version on all machines"
    try:
        is_shared = marker.read_text() == token
        # Not even two processes of one machine may take the same name.
        probe = marker.with_name(f"{marker.name}-{socket.gethostname()}-{os.getpid()}")
        probe.write_text(token)
        probe.unlink()
    except Exception as error:
        # Each store has exceptions of its own.
        is_shared, reason = False, error_reason(error)
    else:
        reason = "another folder of this name"
    if not is_shared:
        remedy = (
            "give an --output folder that all machines share and may write to"
            if isinstance(marker, Path)
            else "set the credentials of its store there, and install the package for it"
        )
        return f"{marker.parent.parent} ({reason}): {remedy}"
    if model is not None and not model.is_dir():
        return f"no model folder {model}: give --local-server a folder that all machines share"
    return "" if image is None else _unreadable(image)


def is_readable(image: pyarrow.Table) -> bool:
    """Whether the image of a manifest of one image can be read on this machine."""
    return not _unreadable(image)


def _unreadable(image: pyarrow.Table) -> str:
    try:
        _, source = next(read_manifest(image))
    except ImportError as error:
        return f"{error}: install the package for this store there, such as pip install 'classify-client[remote]'"
    try:
        if isinstance(source.original, Path):
            source.original.open("rb").close()
        else:
            source.original().close()
    except OSError as error:
        return (
            f"cannot read {source.original} ({error_reason(error)}): give images in a folder that all machines share,"
            " or in an object store"
        )
    except ImageError as error:
        return f"cannot read {source.name} ({error.reason}): set the credentials of its store there"
    return ""
