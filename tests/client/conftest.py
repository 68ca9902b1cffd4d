"""Fixtures: a server for a model with known answers, and a client with images for it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from client_support import Client, Start
from support import BrightnessModel, make_metadata, serving, write_picture


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that serves a BrightnessModel until the test ends, and gives a Client of its server."""
    with ExitStack() as stack:

        def serve(model: BrightnessModel) -> Client:
            address = stack.enter_context(serving(model))
            return Client(model, address, tmp_path / "images", tmp_path / "classified")

        yield serve


@pytest.fixture
def client(start: Start) -> Client:
    """A client of six images; two have a wrong label, and the folder `dark grey` is merged into the class `grey`."""
    client = start(BrightnessModel(make_metadata(merges={"dark grey": "grey"})))
    for name, brightness in {
        "black/1.png": 5,
        "black/2.png": 250,
        "dark grey/1.png": 120,
        "dark grey/2.png": 3,
        "white/1.jpg": 255,
        "unknown/1.png": 0,
    }.items():
        write_picture(client.images / name, brightness)
    return client
