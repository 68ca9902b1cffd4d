"""From the inputs on the command line to a stream of images."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from classify_client.errors import InputError
from classify_client.inputs.kinds import Listing, kind_of
from classify_client.inputs.selection import Selection, select
from classify_client.inputs.source import Source
from classify_serving.contract.text import error_reason


def list_sources(selection: Selection, output: Path | None = None) -> Iterator[Source]:
    """List the selected images of all inputs lazily, in the order given and sorted within each folder.

    Args:
        selection: the inputs, and which of their images to take; `kinds.py` has the kinds of inputs.
        output: the output folder; it and those of other runs are skipped, so that no copy of a miss is classified
            again.

    Raises:
        InputError: an input does not exist or cannot be listed, or there is no image at all.
    """
    for given in selection.inputs:
        kind_of(given).check(given)
    stream = select(_list_all(selection, output), selection)
    first = next(stream, None)
    if first is None:
        raise InputError(_nothing_found(selection))
    return chain([first], stream)


def _list_all(selection: Selection, output: Path | None) -> Iterator[Source]:
    listing = Listing(output and output.resolve(), selection.shuffle is None, len(selection.inputs) == 1)
    for given in selection.inputs:
        try:
            yield from kind_of(given).list(given, listing)
        except OSError as error:
            raise InputError(f"cannot list {error.filename or given}: {error_reason(error)}") from error


def _nothing_found(selection: Selection) -> str:
    names = ", ".join(selection.inputs)
    if selection.include or selection.exclude:
        return f"no image in {names} is left by --include and --exclude: change those"
    if all(given == "-" or given.startswith("@") for given in selection.inputs):
        return f"no paths in {names}: write one on each line"
    return f"no images in {names}: give a folder with JPEG, PNG or other image files"
