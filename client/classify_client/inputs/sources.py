"""From the inputs on the command line to a stream of images."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from classify_client.errors import InputError
from classify_client.inputs.kinds import InputKind, Listing, kind_of
from classify_client.inputs.selection import Selection, select
from classify_client.inputs.source import Source
from classify_serving.contract.text import error_reason


def list_sources(
    selection: Selection, output: Path | str | None = None, on_other: Callable[[], None] = lambda: None
) -> Iterator[Source]:
    """List the selected images of all inputs lazily, in the order given and sorted within each folder.

    Args:
        selection: the inputs, and which of their images to take; `kinds.py` has the kinds of inputs.
        output: the output folder, or its URL in an object store; it and those of other runs are skipped, so that no
            copy of a miss is classified again.
        on_other: called for each file in a folder that is left out because its name is not that of an image.

    Raises:
        InputError: an input does not exist or cannot be listed, or there is no image at all.
    """
    inputs = check_inputs(selection)
    listing = Listing(
        output.resolve() if isinstance(output, Path) else output, selection.shuffle is None, len(inputs) == 1, on_other
    )
    stream = select(_list_all(inputs, listing), selection)
    first = next(stream, None)
    if first is None:
        raise InputError(_nothing_found(selection, inputs))
    return chain([first], stream)


def check_inputs(selection: Selection) -> Sequence[tuple[str, InputKind]]:
    """The inputs with their kinds.

    Raises:
        InputError: one does not exist or cannot be listed.
    """
    inputs = [(given, kind_of(given)) for given in selection.inputs]
    for given, kind in inputs:
        kind.check(given)
    return inputs


def _list_all(inputs: Sequence[tuple[str, InputKind]], listing: Listing) -> Iterator[Source]:
    for given, kind in inputs:
        try:
            yield from kind.list(given, listing)
        except OSError as error:
            raise InputError(f"cannot list {error.filename or given}: {error_reason(error)}") from error


def _nothing_found(selection: Selection, inputs: Sequence[tuple[str, InputKind]]) -> str:
    names = ", ".join(selection.inputs)
    if selection.include or selection.exclude:
        return f"no image in {names} matches --include and --exclude: change these options"
    if all(kind.is_list for _, kind in inputs):
        return f"no paths in {names}: write one on each line"
    return f"no images in {names}: give a folder with JPEG, PNG or other image files"
