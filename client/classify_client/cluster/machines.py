"""What each machine of a cluster must have for a run; `check_machine` runs there."""

import os
import socket
from pathlib import Path

from pyarrow import parquet

from classify_client import __version__
from classify_client.cluster.manifest import read_manifest
from classify_serving.contract.images import ImageError
from classify_serving.contract.text import error_reason


def check_machine(version: str, marker: Path, token: str, model: Path | None, manifest: Path | None) -> str:
    """What is wrong on this machine for a run that was started on another, with the remedy; empty if nothing is.

    Args:
        version: of the package there.
        marker: a file that was written into the output folder there.
        token: its content.
        model: the folder of the model that is to be served here, if any.
        manifest: a file of the manifest, whose first image could be read there; None to check no image.
    """
    if version != __version__:
        return f"classify-client {__version__} is installed, not {version}: install the same version on all machines"
    try:
        is_shared = marker.read_text() == token
        # Not even two processes of one machine may take the same name.
        probe = marker.with_name(f"{marker.name}-{socket.gethostname()}-{os.getpid()}")
        probe.write_text(token)
        probe.unlink()
    except OSError as error:
        is_shared, reason = False, error_reason(error)
    else:
        reason = "another folder of this name"
    if not is_shared:
        return f"{marker.parent.parent} ({reason}): give an --output folder that all machines share and may write to"
    if model is not None and not model.is_dir():
        return f"no model folder {model}: give --local-server a folder that all machines share"
    return _unreadable(manifest) if manifest else ""


def first_is_readable(manifest: Path) -> bool:
    """Whether the first image of a manifest can be read on this machine."""
    return not _unreadable(manifest)


def _unreadable(manifest: Path) -> str:
    with parquet.ParquetFile(manifest) as file:
        _, source = next(read_manifest(next(file.iter_batches(1))))
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
