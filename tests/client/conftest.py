"""A folder of pictures and a server that knows them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from client_support import Client, Start
from support import BrightnessModel, make_metadata, serving, write_picture


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a model's server; gives a function from BrightnessModel to Client."""
    with ExitStack() as stack:

        def serve(model: BrightnessModel) -> Client:
            address = stack.enter_context(serving(model))
            return Client(model, address, tmp_path / "images", tmp_path / "classified")

        yield serve


@pytest.fixture
def client(start: Start) -> Client:
    """Six pictures, two of them filed under the wrong brightness, one of those a merged class."""
    made = start(BrightnessModel(make_metadata(merges={"dark grey": "grey"})))
    for name, brightness in {
        "black/1.png": 5,
        "black/2.png": 250,
        "dark grey/1.png": 120,
        "dark grey/2.png": 3,
        "white/1.jpg": 255,
        "unknown/1.png": 0,
    }.items():
        write_picture(made.images / name, brightness)
    return made
