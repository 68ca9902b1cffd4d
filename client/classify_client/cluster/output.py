"""The output folder of a run on a cluster: a local one, or one in an object store, while the run uses it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from classify_client.cluster.storage.remote_output import RemoteOutput
from classify_client.config import RunConfig
from classify_client.errors import ClassifyError, OutputError
from classify_client.run import cannot_write, locked_output
from classify_client.terminal.progress import waiting
from classify_serving.contract.text import error_reason

if TYPE_CHECKING:
    from upath import UPath


@contextmanager
def output_folder(output: Path) -> Iterator[None]:
    """Hold a local output folder while the block runs; a new one is removed if nothing is in it, as the run failed.

    Raises:
        OutputError: another run has it, or something cannot be written.
    """
    is_new = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        with locked_output(output):
            yield
    except OSError as error:
        raise cannot_write(output, error) from error
    finally:
        if is_new:
            with suppress(OSError):
                output.rmdir()


@contextmanager
def output_in_store(config: RunConfig, url: "UPath") -> Iterator[tuple[RunConfig, RemoteOutput]]:
    """Use an output folder in an object store while the block runs.

    Yields:
        The run with a local folder as output, which has the earlier results, and that in the store.

    Raises:
        OutputError: something cannot be read from the store or written.
    """
    folder = ""
    try:
        with TemporaryDirectory(prefix="classify-client-") as folder:
            remote = RemoteOutput(url, Path(folder))
            with waiting("Reading earlier results", config.quiet):
                remote.download()
            yield replace(config, output=replace(config.output, output=Path(folder))), remote
    except ClassifyError:
        raise
    except Exception as error:
        # Each store raises the exceptions of its own library: no credentials, no such bucket, no connection ...
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"cannot write {error.filename or folder} ({error_reason(error)}): set TMPDIR to a folder with more"
                " space, and run again to continue"
            ) from error
        if isinstance(error, OSError) or type(error).__module__ != "builtins":
            raise cannot_write(str(url), error) from error
        raise
