"""Classification from Python: `classify` with a real server."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from client_support import Start
from PIL import Image
from support import BrightnessModel, make_metadata, write_picture

from classify_client import Classification, ClassifyError, Connection, classify


@pytest.fixture
def server(start: Start) -> str:
    return start(BrightnessModel(make_metadata(model_version=7))).address


def test_paths_arrays_and_pillow_images_are_classified_in_the_given_order(server: str, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "black.png", 5)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    array = np.full((30, 50, 3), 250, np.uint8)
    picture = Image.new("LA", (9, 9), (0, 0))
    picture.info["mine"] = "kept"
    results = list(classify([path, array, str(path), broken, picture, array[:0], array.astype(float)], server))
    assert [result.label for result in results] == ["black", "white", "black", None, "white", None, None]
    assert results[1].image is array
    assert results[0] == Classification(path, results[0].top, 7, "")
    assert results[0].probability == pytest.approx(0.7)
    assert [name for name, _ in results[0].top] == ["black", "grey", "white"]
    assert "not an image" in results[3].error
    assert "uint8 [H,W,3]" in results[6].error
    assert (picture.mode, picture.info) == ("LA", {"mine": "kept"})


def test_an_endless_iterable_is_read_only_as_needed(server: str) -> None:
    taken = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal taken
        while True:
            taken += 1
            yield Image.new("L", (8, 8), 250)

    results = classify(endless(), [server], batch_size=2, in_flight=2, threads=1)
    assert [result.label for result in islice(results, 10)] == ["white"] * 10
    results.close()  # type: ignore[attr-defined]  # declared as an iterator, but it is a generator
    assert taken < 100


def test_an_unreachable_server_raises_a_classify_error() -> None:
    with pytest.raises(ClassifyError, match=r"127\.0\.0\.1:1"):
        next(classify([], connection=Connection(servers=("127.0.0.1:1",)), retry_timeout=0))


def test_an_object_that_is_not_an_image_raises_a_type_error(server: str) -> None:
    with pytest.raises(TypeError, match="not an image: int"):
        list(classify([3], server))  # type: ignore[list-item]
